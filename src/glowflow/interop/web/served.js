// Browsers give a page no modules from the disk: say so, where that is the case.
if (location.protocol === "file:") {
  document.getElementById("status").textContent =
    "Opened from the disk, a browser lets the page load nothing: serve the folder instead, " +
    "with python -m http.server, and open the address that it prints.";
  document.getElementById("progress").hidden = true;
}
