"""A model as a page: its files, and what a browser makes of them."""

import io
import json
import re
import shutil
import tarfile
import threading
from contextlib import redirect_stdout
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.cli import main
from glowflow.errors import InputError
from glowflow.interop import web_runtime
from glowflow.interop.web import PAGE, WALL, export_web, normals
from glowflow.interop.web_runtime import PACKAGE, PROGRAM, SCRIPT, Runtime, runtime_at_hand, unpack
from glowflow.latents.codes import unflatten
from glowflow.latents.directions import Directions, save_directions
from glowflow.models.companions import identity
from glowflow.models.training_data import TrainingData
from glowflow.photos.images import read_image

from ..conftest import perturb

AT_HAND = runtime_at_hand()
"""Before the tests' cache takes the place of the user's."""
PHONE, DESKTOP = (390, 844), (1280, 900)
NAME = "two <tiny> classes"
SIZE = 3 * 16 * 16


def initialized(model):
    model.initialize(torch.randint(0, 256, (16, *model.config.image_shape), dtype=torch.uint8))
    return perturb(model, 0.02).eval()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GlowConfig(
        image_shape=(3, 16, 16), levels=2, steps=1, hidden_channels=8, classes=2, bits=8
    )
    made = initialized(Glow(config))
    made.trained_on = TrainingData(class_names=("round", "square & flat"))
    return made


@pytest.fixture(scope="module")
def directions(model):
    latents = {
        name: tuple(0.3 * torch.randn(shape) for shape in model.latent_shapes)
        for name in ("Red_Hair", "Hat")
    }
    return Directions(
        latents=latents,
        estimator="mean",
        model=identity(model),
        counts=dict.fromkeys(latents, (1, 1)),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory, model, directions):
    """What `glow export --format web` says of a site below a folder."""
    place = tmp_path_factory.mktemp("web")
    model.save_pretrained(place / NAME)
    save_directions(place / NAME / "directions.safetensors", directions)
    package = place / "package"
    package.mkdir()
    if AT_HAND is None:  # which the files that are looked at do not need
        (package / SCRIPT).write_text("export {};", encoding="utf-8")
        (package / PROGRAM).write_bytes(b"\0asm\1\0\0\0")
    else:
        shutil.copy(AT_HAND.script, package / SCRIPT)
        shutil.copy(AT_HAND.program, package / PROGRAM)
    said = io.StringIO()
    with redirect_stdout(said):
        given = ["export", str(place / NAME), "--format", "web", "--runtime", str(package)]
        assert main([*given, "--out", str(place / "a" / "site"), "--json"]) == 0
    return json.loads(said.getvalue())


@pytest.fixture(scope="module")
def site(page):
    return Path(page["out"])


def meta_of(site):
    return json.loads((site / "meta.json").read_text(encoding="utf-8"))


def pictures(model, codes, labels=None):
    latents = unflatten(torch.from_numpy(codes), model.latent_shapes)
    return model.to_images(model.decode(latents, labels)).numpy()


class Elements(HTMLParser):
    """What a page holds."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if values.get(name)]

    def handle_data(self, data):
        self.text += data


def test_everything_that_the_page_names_is_in_the_folder(page, site):
    index = Elements((site / "index.html").read_text(encoding="utf-8"))
    assert len(set(index.ids)) == len(index.ids)
    for link in index.links:
        assert link.startswith(("#", "data:")) or (site / link).is_file(), link
    for script in site.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        for name in re.findall(r'(?:from |URL\(|here\(|bytesOf\(|unpacked\()"([^"]+)"', text):
            assert (site / name).is_file(), f"{script.name}: {name}"
        for found in re.findall(r'(?:find|getElementById)\("([^"]+)"\)', text):
            assert found in index.ids, f"{script.name}: {found}"
    assert {path.name for path in PAGE.iterdir()} <= {path.name for path in site.iterdir()}
    sizes = {p: p.stat().st_size for p in site.rglob("*") if p.is_file()}
    assert page["bytes_of_files"] == {p.relative_to(site).as_posix(): n for p, n in sizes.items()}
    assert set(meta_of(site)["files"]) == set(page["bytes_of_files"])


def test_the_page_asks_no_other_host_and_may_not(site):
    for path in PAGE.iterdir():
        assert not re.search(r"https?:|//[a-z]+\.", path.read_text(encoding="utf-8")), path.name
    html = (site / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy


def test_names_are_words_and_not_html(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert NAME in Elements(html).text and "<tiny>" not in html
    assert meta_of(site)["class_names"] == ["round", "square & flat"]


def test_the_pictures_to_compare_are_pythons(page, site, model):
    meta, data = meta_of(site), (site / "check.bin").read_bytes()
    count = meta["check"]["count"]
    codes = np.frombuffer(data, np.float32, count * SIZE).reshape(count, SIZE)
    expected = np.frombuffer(data, np.uint8, offset=codes.nbytes).reshape(-1, 3, 16, 16)
    assert np.array_equal(pictures(model, codes.copy(), torch.arange(count) % 2), expected)
    assert page["bytes_compared"] == expected.size == 4 * SIZE
    assert page["largest_difference"] <= 1 and page["bytes_that_differ"] <= 4
    assert page["bytes_not_returned"] == 0


def test_the_wall_is_what_the_page_draws_from_the_first_seeds(site, model):
    meta, sheet = meta_of(site), np.asarray(Image.open(site / "wall.webp").convert("RGB"))
    codes = np.float32(0.7) * np.stack([normals(seed, SIZE) for seed in range(WALL)])
    drawn = pictures(model, codes, torch.arange(WALL) % 2)
    for number, picture in enumerate(drawn):
        row, column = divmod(number, meta["wall"]["columns"])
        tile = sheet[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert np.array_equal(tile, picture.transpose(1, 2, 0)), number


def test_the_generator_is_normal_and_each_seed_has_its_own():
    many = normals(7, 200_001)
    assert many.dtype == np.float32 and len(many) == 200_001
    assert abs(many.mean()) < 0.01 and abs(many.std() - 1) < 0.01
    assert abs((np.abs(many) < 1).mean() - 0.6827) < 0.005
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(many, normals(8, 200_001))[0, 1]) < 0.01
    assert np.array_equal(many[:100], normals(7, 100))


def test_directions_are_in_the_order_of_the_sliders(site, directions):
    data = np.fromfile(site / "directions.bin", np.float32).reshape(2, SIZE)
    assert meta_of(site)["attributes"] == ["Red_Hair", "Hat"]
    hat = np.concatenate([eps.numpy().ravel() for eps in directions.latents["Hat"]])
    assert np.array_equal(data[1], hat)


@pytest.mark.parametrize(
    "shape, bits, said", [((1, 8, 8), None, "float"), ((2, 8, 8), 8, "2 channels")]
)
def test_what_is_no_picture_is_refused(tmp_path, shape, bits, said):
    model = Glow(GlowConfig(image_shape=shape, levels=1, steps=1, hidden_channels=4, bits=bits))
    runtime = Runtime(tmp_path / SCRIPT, tmp_path / PROGRAM, "none")
    with pytest.raises(InputError, match=said):
        export_web(model, tmp_path / "site", runtime, name="x")
    assert not (tmp_path / "site").exists()


def test_the_runtime_is_found_in_node_modules_above(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    package, below = tmp_path / "node_modules" / PACKAGE, tmp_path / "b" / "c"
    (package / "dist").mkdir(parents=True)
    below.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"name": PACKAGE, "version": "9.8.7"}))
    monkeypatch.chdir(below)
    assert runtime_at_hand() is None
    for name in (SCRIPT, PROGRAM):
        (package / "dist" / name).write_bytes(b"x")
    assert runtime_at_hand().version == "9.8.7"
    assert web_runtime.runtime(package / "dist").version == "9.8.7"
    with pytest.raises(InputError, match=rf"There is no {SCRIPT} .* give the folder"):
        web_runtime.runtime(below)


@pytest.mark.parametrize("npm", ["", "#!/bin/sh\necho no network >&2; exit 1\n", "#!/bin/sh\n"])
def test_without_the_runtime_a_sentence_says_what_to_do(tmp_path, monkeypatch, npm):
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    if npm:
        (tmp_path / "npm").write_text(npm)
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"npm install onnxruntime-web@.*--runtime FOLDER") as said:
        web_runtime.runtime()
    assert "exit 1" not in npm or "no network" in str(said.value)
    assert not (tmp_path / "cache").exists()


def archive(path, members):
    with tarfile.open(path, "w:gz") as package:
        for name, content in members.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))


def test_only_the_known_files_are_taken_from_a_package(tmp_path, monkeypatch):
    path, folder = tmp_path / "p.tgz", tmp_path / "kept"
    archive(path, {SCRIPT: b"one", PROGRAM: b"two", "../../../evil": b"three"})
    with pytest.raises(InputError, match="is not that of"):
        unpack(path, folder)
    assert not folder.exists()
    known = {
        SCRIPT: "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        PROGRAM: "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
    }
    monkeypatch.setattr(web_runtime, "SHA256", known)
    unpack(path, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {SCRIPT: b"one", PROGRAM: b"two"}
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="fetch onnxruntime-web"):
        unpack(path, folder)


def test_a_runtime_goes_with_a_page_alone(capsys, tmp_path):
    given = ["export", "demo-faces", "--out", str(tmp_path / "x"), "--runtime", str(tmp_path)]
    assert main([*given, "--format", "onnx"]) == 2
    assert "--runtime is for --format web" in capsys.readouterr().err
    assert main([*given, "--format", "web"]) == 2
    assert f"There is no {SCRIPT} with {PROGRAM}" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.network
def test_npm_fetches_the_runtime(tmp_path, monkeypatch):
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    monkeypatch.setenv("GLOWFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    found = web_runtime.runtime()
    assert found.version == web_runtime.VERSION and found.program.stat().st_size > 10**7
    assert runtime_at_hand() == found


# In a browser ---------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, *_):
        """Not a word."""


@pytest.fixture(scope="module")
def serve():
    """Serves a folder on the loopback address, and gives its address."""
    servers = []

    def call(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield call
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def address(serve, site):
    """Of the folder two above the site: it is in a sub-path."""
    return serve(site.parent.parent)


@pytest.fixture
def runtime_here():
    if AT_HAND is None:
        pytest.skip(f"there is no {PACKAGE} here: npm install {PACKAGE}")


@pytest.fixture
def open_page(chromium):
    """Opens pages, and fails if one complained or asked for anything but its own files."""
    contexts, wrong, asked = [], [], []

    def call(url, size=DESKTOP, scheme="light", **how):
        width, height = size
        viewport = {"width": width, "height": height}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, **how)
        contexts.append(context)
        own = url.split("/")[2]
        context.on("request", lambda request: asked.append((own, request.url)))
        context.route(
            lambda wanted: f"//{own}/" not in wanted and not wanted.startswith("data:"),
            lambda route: route.abort(),
        )
        shown = context.new_page()
        shown.set_default_timeout(120_000)
        shown.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.goto(url)
        return shown

    call.wrong = wrong
    yield call
    for context in contexts:
        context.close()
    assert wrong == []
    elsewhere = [url for own, url in asked if not re.match(rf"http://{own}/|data:|blob:", url)]
    assert asked and elsewhere == []


@pytest.fixture
def live(runtime_here, open_page, address):
    """The site, with the model in it."""

    def call(url=f"{address}/a/site/", **how):
        return started(open_page(url, **how))

    return call


def started(shown):
    shown.wait_for_selector("html[data-state]", state="attached")
    assert shown.locator("html").get_attribute("data-state") == "ready"
    return shown


def pixels(shown, selector="#stage"):
    """Bytes (height, width, 4) of a canvas."""
    width, height, values = shown.evaluate(
        "s => { const c = document.querySelector(s); return [c.width, c.height, [...c.getContext"
        "('2d').getImageData(0, 0, c.width, c.height).data]]; }",
        selector,
    )
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)


def settled(shown):
    """Waits until no frame is to come, and gives the picture."""
    return shown.evaluate(
        """async () => {
          const stage = document.getElementById("stage");
          for (let still = 0, last; still < 8; last = stage.dataset.frames) {
            still = stage.dataset.frames === last ? still + 1 : 0;
            await new Promise((go) => setTimeout(go, 60));
          }
        }"""
    ) or pixels(shown)


def near(shown, model, code, label=None):
    """Whether the stage shows what Python makes of a code, ±1."""
    labels = None if label is None else torch.tensor([label])
    (expected,) = pictures(model, code[None].astype(np.float32), labels)
    found = settled(shown)[:, :, : len(expected)].transpose(2, 0, 1)
    return np.abs(found.astype(int) - expected).max() <= 1


def slide(shown, name, value):
    shown.get_by_label(name, exact=True).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", value
    )


@pytest.mark.browser
@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (PHONE, "light"),
        (DESKTOP, "dark"),
        pytest.param(PHONE, "dark", marks=pytest.mark.slow),
        pytest.param(DESKTOP, "light", marks=pytest.mark.slow),
    ],
)
def test_the_page_draws_what_python_draws(live, model, size, scheme):
    shown = live(size=size, scheme=scheme)
    assert shown.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert re.fullmatch(r"\d+ ms a frame", shown.inner_text("#time"))
    assert near(shown, model, 0.7 * normals(0, SIZE), 0)
    shown.locator("summary").click()
    shown.click("#check")
    shown.wait_for_selector("#checked[data-farthest]", state="attached")
    assert int(shown.locator("#checked").get_attribute("data-farthest")) <= 1
    ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")


@pytest.mark.browser
def test_everything_is_labelled_and_reached_by_keyboard(live, model):
    shown = live(size=PHONE)
    unnamed = shown.evaluate(
        """() => [...document.querySelectorAll("input, select, button, canvas, img")].filter(
          (e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label") || e.alt
            || e.closest("[aria-hidden], #wall button, :disabled"))).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    shown.locator("#wall button").first.focus()
    for key in ("ArrowRight", "ArrowDown", "Home", "End", "ArrowLeft", "Enter"):
        shown.keyboard.press(key)
    assert (
        shown.locator("#wall [aria-pressed=true]").get_attribute("aria-label")
        == f"Picture {WALL - 1}"
    )
    assert near(shown, model, 0.7 * normals(WALL - 2, SIZE), 0)
    shown.locator("#sliders input").first.focus()
    shown.keyboard.press("End")
    assert near(shown, model, 1.2 * normals(WALL - 2, SIZE), 0)
    shown.wait_for_selector("#said:has-text('ms a frame')", state="attached")


@pytest.mark.browser
def test_sliders_mix_and_class_do_what_python_does(live, model, directions):
    shown = live()
    shown.click("#wall button >> nth=4")
    shown.check("[name=slot][value='1']", force=True)
    shown.click("#wall button >> nth=6")
    slide(shown, "Mix", 0.25)
    slide(shown, "Red hair", -1.5)
    slide(shown, "Hat", 0.5)
    shown.select_option("#class", "1")
    slide(shown, "Temperature", 0.9)  # of the second picture
    red, hat = (
        np.concatenate([eps.numpy().ravel() for eps in directions.latents[name]])
        for name in ("Red_Hair", "Hat")
    )
    code = 0.75 * 0.7 * normals(4, SIZE) + 0.25 * 0.9 * normals(6, SIZE) - 1.5 * red + 0.5 * hat
    assert near(shown, model, code, 1)
    shown.click("#reset")
    assert near(shown, model, 0.7 * normals(4, SIZE), 0)
    shown.click("#another")
    assert near(shown, model, 0.7 * normals(WALL, SIZE), 0)


@pytest.mark.browser
def test_after_a_thousand_random_drags_the_last_values_are_shown(live, model, directions):
    shown = live()
    values = shown.evaluate(
        """async () => {
          const sliders = [...document.querySelectorAll("#sliders input, #mix")];
          let state = 1;
          const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
          for (let i = 0; i < 1000; i++) {
            const one = sliders[Math.floor(random() * sliders.length)];
            one.value = Number(one.min) + random() * (one.max - one.min);
            one.dispatchEvent(new Event("input"));
            if (random() < 0.3) await new Promise((go) => setTimeout(go, 4 * random()));
          }
          return Object.fromEntries(sliders.map((s) => [s.ariaLabel, Number(s.value)]));
        }"""
    )
    temperature, t = values["Temperature"], values["Mix"]
    code = (1 - t) * temperature * normals(0, SIZE) + t * 0.7 * normals(1, SIZE)
    for name, label in (("Red_Hair", "Red hair"), ("Hat", "Hat")):
        row = np.concatenate([eps.numpy().ravel() for eps in directions.latents[name]])
        code = code + values[label] * row
    assert near(shown, model, code, 0)
    assert 3 <= int(shown.locator("#stage").get_attribute("data-frames")) <= 1001


@pytest.mark.browser
def test_a_picture_of_ones_own_comes_back_whole_and_leaves_as_png(live, model, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "own.png")
    shown = live()
    shown.set_input_files("#file", tmp_path / "own.png")
    shown.click("#use")
    shown.wait_for_selector("#status:has-text('768 of 768 values are the same')")
    assert np.array_equal(settled(shown)[:, :, :3], image)
    with shown.expect_download() as download:
        shown.click("#download")
    assert download.value.suggested_filename.endswith(".png")
    assert np.array_equal(np.asarray(Image.open(download.value.path()).convert("RGB")), image)
    (tmp_path / "no.png").write_bytes(b"no picture")
    shown.set_input_files("#file", tmp_path / "no.png")
    shown.wait_for_selector("#status:has-text('no.png is no picture')")


@pytest.mark.browser
def test_a_photograph_is_cropped_and_averaged_as_python_does(live, tmp_path):
    rows, columns = np.mgrid[0:120, 0:200]
    photo = np.stack((rows * 2, columns, (rows + columns) % 256), axis=2).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    shown = live(size=PHONE)
    shown.set_input_files("#file", tmp_path / "photo.png")
    shown.click("#use")
    shown.wait_for_selector("#status:has-text('768 of 768')")
    expected = read_image(tmp_path / "photo.png", (3, 16, 16)).transpose(1, 2, 0).astype(int)
    assert np.abs(settled(shown)[:, :, :3] - expected).max() <= 1
    shown.set_input_files("#file", tmp_path / "photo.png")
    shown.focus("#crop")
    for _ in range(30):
        shown.keyboard.press("ArrowRight")
    shown.click("#use")
    shown.wait_for_timeout(300)
    Image.fromarray(photo[:, 80:]).save(tmp_path / "right.png")
    expected = read_image(tmp_path / "right.png", (3, 16, 16)).transpose(1, 2, 0).astype(int)
    assert np.abs(settled(shown)[:, :, :3] - expected).max() <= 1


@pytest.mark.browser
def test_new_pictures_on_the_wall_are_those_that_a_click_takes(live, model):
    shown = live()
    shown.click("#more")
    shown.wait_for_timeout(1500)
    last = pixels(shown, "#wall button:last-child canvas")
    shown.click("#wall button:last-child")
    assert np.array_equal(settled(shown), last)
    assert near(shown, model, 0.7 * normals(2 * WALL - 1, SIZE), 1)


@pytest.mark.browser
def test_after_a_first_visit_the_page_opens_without_a_network(live, site, serve):
    address = serve(site)
    shown = live(url=address + "/")
    shown.wait_for_selector("html[data-kept]", state="attached")
    shown.wait_for_timeout(500)
    shown.context.set_offline(True)
    started(shown.goto(address + "/") and shown)
    assert re.fullmatch(r"\d+ ms a frame", shown.inner_text("#time"))


@pytest.mark.browser
def test_a_model_that_is_not_there_is_told_of(runtime_here, open_page, site, serve, tmp_path):
    shutil.copytree(site, tmp_path / "broken")
    (tmp_path / "broken" / "weights.bin").unlink()
    shown = open_page(serve(tmp_path / "broken") + "/")
    shown.wait_for_selector("#status:has-text('weights.bin is not there (404)')")
    assert len(np.unique(pixels(shown, "#wall canvas"))) > 3
    assert all("404" in said for said in open_page.wrong)
    open_page.wrong.clear()


@pytest.mark.browser
@pytest.mark.parametrize("bits", [8, 5, 1])
def test_bytes_and_floats_are_pythons(open_page, address, model, bits):
    shown = open_page(f"{address}/a/site/wall.webp")
    x = np.random.default_rng(0).normal(0, 0.4, 1000).astype(np.float32)
    x[:4] = np.nan, -0.5, 0.5, 1e9
    given = np.arange(256, dtype=np.uint8)
    byte, back, half, code = shown.evaluate(
        """async ([url, x, bits, halves]) => {
          const { toBytes, toFloat, widened, normals } = await import(url);
          const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
          const floats = Float32Array.from(x, (v) => v ?? NaN);
          const half = widened(Uint16Array.from(halves));
          return [toBytes(floats, bits), toFloat(bytes, bits), half, normals(5, 999)].map(
            (some) => [...some],
          );
        }""",
        [
            f"{address}/a/site/codes.js",
            [None if np.isnan(v) else float(v) for v in x],
            bits,
            x[4:].astype(np.float16).view(np.uint16).tolist(),
        ],
    )
    from glowflow.models.likelihood import dequantize, quantize

    as_images = torch.from_numpy(x)[None, :, None, None]
    assert byte == quantize(as_images, bits).flatten().tolist()
    centred = dequantize(torch.from_numpy(given)[None, :, None, None], bits, noise="center")
    assert np.array_equal(np.float32(back), centred.flatten().numpy())
    assert np.array_equal(np.float32(half), x[4:].astype(np.float16).astype(np.float32))
    assert np.abs(np.float32(code) - normals(5, 999)).max() < 1e-6


GREY = {"image_shape": (1, 8, 8), "hidden_channels": 4, "bits": 5}
GREYS = {
    "glow": partial(Glow, GlowConfig(**GREY, levels=1, steps=1)),
    "realnvp": partial(RealNVP, RealNVPConfig(**GREY, scales=2, residual_blocks=1)),
}


@pytest.mark.browser
@pytest.mark.parametrize("family", ["glow", pytest.param("realnvp", marks=pytest.mark.slow)])
def test_grey_pictures_in_half_the_size(live, serve, tmp_path, family):
    model = initialized(GREYS[family]())
    found = export_web(model, tmp_path / "site", AT_HAND, name="grey", precision="float16")
    shown = live(url=serve(tmp_path / "site") + "/")
    assert not shown.locator("#sliders fieldset").count() and not shown.is_visible("#class-row")
    picture = settled(shown)
    assert np.array_equal(picture[:, :, 0], picture[:, :, 2]) and not (picture[:, :, 0] % 8).any()
    shown.locator("summary").click()
    shown.click("#check")
    shown.wait_for_selector("#checked[data-farthest]", state="attached")
    far = int(shown.locator("#checked").get_attribute("data-farthest"))
    assert far <= max(8, found.largest_difference)
