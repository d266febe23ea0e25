// After a first visit the page opens without a network; while there is one, it is asked first.
addEventListener("fetch", (event) => {
  const { request } = event;
  event.respondWith(
    fetch(request).catch(async () => (await caches.match(request)) ?? Response.error()),
  );
});
