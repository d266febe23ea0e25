// The scatter plot of the page about levels: held-out images on two axes of one level.

const data = JSON.parse(document.getElementById('data').textContent);
const element = id => document.getElementById(id);
const plot = element('plot');
const tip = element('tip');

const MARGIN = 30;
const TIP_SIZE = 96;
const COLOURS = { plain: '#4a7fb5', true: '#c2410c', false: '#8fb3d9' };

function fill(id, names, chosen) {
  element(id).replaceChildren(...names.map((name, i) => new Option(name, i)));
  element(id).selectedIndex = Math.min(chosen, names.length - 1);
}

function chosenLevel() {
  return data.levels[element('level').value];
}

/** The attribute that colours the dots; undefined for none. */
function chosenAttribute() {
  return data.attributes[+element('attribute').value - 1];
}

function fillAxes() {
  fill('x', chosenLevel().names, 0);
  fill('y', chosenLevel().names, 1);
}

/** A function from the values' range to pixels. */
function scale(values, from, to) {
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  return value => from + (value - low) / range * (to - from);
}

function draw() {
  const level = chosenLevel();
  const attribute = chosenAttribute();
  const [x, y] = [+element('x').value, +element('y').value];
  const width = plot.clientWidth;
  const height = Math.max(320, Math.round(0.6 * width));
  const across = scale(level.points.map(point => point[x]), MARGIN, width - MARGIN);
  const up = scale(level.points.map(point => point[y]), height - MARGIN, MARGIN);
  const order = level.points.map((_, i) => i);
  if (attribute) order.sort((i, j) => attribute.true[i] - attribute.true[j]);
  const dots = order.map(i => {
    const colour = COLOURS[attribute ? attribute.true[i] === '1' : 'plain'];
    const [cx, cy] = [across(level.points[i][x]), up(level.points[i][y])].map(v => v.toFixed(1));
    return `<circle data-i=${i} cx=${cx} cy=${cy} r=5 fill="${colour}"></circle>`;
  });
  plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
  plot.innerHTML = dots.join('') +
    `<text x=${width / 2} y=${height - 8} text-anchor=middle></text>` +
    `<text x=12 y=${height / 2} text-anchor=middle transform="rotate(-90 12 ${height / 2})"></text>`;
  const labels = plot.querySelectorAll('text');
  labels[0].textContent = level.names[x];
  labels[1].textContent = level.names[y];
  element('key').textContent = attribute ? key(attribute) : '';
}

function key(attribute) {
  const count = [...attribute.true].filter(each => each === '1').length;
  return `orange: ${attribute.name} (${count} of ${attribute.true.length}); blue: not.`;
}

/** Show image i beside the pointer, cut from the sprite that has all of them. */
function showTip(event, i) {
  const [width, height] = data.cell;
  const [column, row] = [i % data.columns, Math.floor(i / data.columns)];
  const zoom = TIP_SIZE / Math.max(width, height);
  const sprite = element('sprite');
  tip.innerHTML = '<div></div><span></span>';
  Object.assign(tip.firstChild.style, {
    width: `${width * zoom}px`,
    height: `${height * zoom}px`,
    backgroundImage: `url(${sprite.src})`,
    backgroundSize: `${sprite.naturalWidth * zoom}px auto`,
    backgroundPosition: `-${column * width * zoom}px -${row * height * zoom}px`,
  });
  const attributes = data.attributes.filter(attribute => attribute.true[i] === '1');
  const names = attributes.map(attribute => attribute.name).join(', ');
  tip.lastChild.textContent = names || data.names[i] || '';
  tip.style.display = 'block';
  const inside = (at, size, all) => `${Math.max(0, Math.min(at + 14, all - size - 8))}px`;
  tip.style.left = inside(event.clientX, tip.offsetWidth, innerWidth);
  tip.style.top = inside(event.clientY, tip.offsetHeight, innerHeight);
}

function hideTip() {
  tip.style.display = 'none';
}

plot.addEventListener('mousemove', event => {
  const i = event.target.dataset && event.target.dataset.i;
  if (i === undefined) hideTip(); else showTip(event, +i);
});
plot.addEventListener('mouseleave', hideTip);

const levels = data.levels.map((level, i) => `level ${i + 1} of ${data.levels.length}, ${level.shape}`);
fill('level', levels, levels.length - 1);
fill('attribute', ['none', ...data.attributes.map(attribute => attribute.name)], 1);
fillAxes();
draw();
element('level').onchange = () => { fillAxes(); draw(); };
for (const id of ['x', 'y', 'attribute']) element(id).onchange = draw;
onresize = draw;
