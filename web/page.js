// The page: draws what the planner does, and tells it what the user wants.
import init, { Page } from './gibbs_web.js';

const query = new URLSearchParams(location.search);
const byId = id => document.getElementById(id);
const canvas = byId('map');
const pen = canvas.getContext('2d');
const theme = query.get('theme');
if (theme) document.documentElement.dataset.theme = theme;

/** The length of a time step, and how often at most a plan is made (in milliseconds). */
const STEP = 100;
/** The number of rollouts that are drawn, and the radius of what is drawn by dragging (in meters). */
const FAN = 96;
const BRUSH = 0.15;

let drive = null;
/** What to do before the next plan: functions that may change the drive. */
let wishes = [];
let wake = () => {};
let paused = false;
let arrived = false;
let trail = [];
let times = [];
let frame = null;
let picture = null;
let drawing = false;

// The smallest module with an instruction of simd128.
const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0,
  253, 15, 253, 98, 11]);

function fail(sentence) {
  byId('error').textContent = sentence;
  byId('error').hidden = false;
  byId('status').textContent = 'Stopped';
  drive = null;
}

const say = sentence => { byId('status').textContent = sentence; };

function wish(what) {
  wishes.push(what);
  wake();
}

const setting = {
  sigma: () => +byId('sigma').value,
  lambda: () => 10 ** +byId('lambda').value,
  horizon: () => +byId('horizon').value,
  rows: () => 2 ** +byId('rows').value,
};
const settings = () => [setting.sigma(), setting.lambda(), setting.horizon(), setting.rows()];

function showSettings() {
  byId('sigma-value').textContent = setting.sigma().toFixed(2);
  byId('lambda-value').textContent = setting.lambda().toPrecision(2);
  byId('horizon-value').textContent = `${setting.horizon()} steps, ${(setting.horizon() * STEP / 1000).toFixed(1)} s`;
  byId('rows-value').textContent = setting.rows().toLocaleString('en');
}

/** Draws the map, which changes only when an obstacle is added. */
function paintMap() {
  const [width, height] = drive.size();
  const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = name => {
    // A 1 × 1 picture resolves any CSS color. `light-dark` is resolved by an element that has it.
    const element = document.createElement('i');
    element.style.color = `var(${name})`;
    document.body.append(element);
    probe.fillStyle = getComputedStyle(element).color;
    element.remove();
    probe.fillRect(0, 0, 1, 1);
    return probe.getImageData(0, 0, 1, 1).data;
  };
  const colors = ['--free', '--unknown', '--wall'].map(rgb);
  picture = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  drive.cells().forEach((cell, i) => {
    // The first row of cells is the lowest.
    const to = (height - 1 - Math.floor(i / width)) * width + i % width;
    image.data.set(colors[cell], 4 * to);
  });
  picture.getContext('2d').putImageData(image, 0, 0);
}

const ink = name => {
  canvas.style.color = `var(${name})`;
  return getComputedStyle(canvas).color;
};
let inks = {};
function mixInks() {
  for (const name of ['fan', 'plan', 'robot', 'goal', 'soft', 'free']) inks[name] = ink(`--${name}`);
}

function animate() {
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

function draw(now) {
  drawing = drive !== null && frame !== null;
  if (!drawing) return;
  const [width, height, resolution] = frame.size;
  const pixels = devicePixelRatio || 1;
  const [w, h] = [Math.round(canvas.clientWidth * pixels), Math.round(canvas.clientHeight * pixels)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const scale = Math.min(w / (width * resolution), h / (height * resolution));
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, w, h);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, 0, 0, width * resolution * scale, height * resolution * scale);
  // From here on in meters, with y up.
  pen.setTransform(scale, 0, 0, -scale, 0, height * resolution * scale);
  pen.lineJoin = pen.lineCap = 'round';
  const line = (points, color, thick, alpha = 1) => {
    pen.strokeStyle = color;
    pen.globalAlpha = alpha;
    pen.lineWidth = thick;
    pen.beginPath();
    for (let i = 0; i < points.length; i += 2) pen.lineTo(points[i], points[i + 1]);
    pen.stroke();
    pen.globalAlpha = 1;
  };
  const circle = (x, y, radius) => {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
  };

  const [gx, gy] = frame.goal;
  pen.strokeStyle = pen.fillStyle = inks.goal;
  pen.lineWidth = 0.05;
  circle(gx, gy, 0.25);
  pen.stroke();
  circle(gx, gy, 0.08);
  pen.fill();

  line(trail, inks.soft, 0.05, 0.8);
  // The heaviest last, so that they are on top.
  const each = 1 + frame.stride;
  for (let at = frame.fan.length - each; at >= 0; at -= each) {
    const weight = frame.fan[at];
    line(frame.fan.subarray(at + 1, at + each), inks.fan, 0.02 + 0.02 * weight, 0.1 + 0.7 * weight);
  }
  line(frame.plan, inks.plan, 0.06);

  // Between two steps the robot is drawn on its way.
  const part = Math.min(1, (now - frame.time) / STEP);
  const [x, y, heading] = frame.from.map((from, i) => from + part * (frame.to[i] - from));
  pen.fillStyle = inks.robot;
  circle(x, y, frame.radius);
  pen.fill();
  line([x, y, x + frame.radius * Math.cos(heading), y + frame.radius * Math.sin(heading)], inks.free, 0.06);
  requestAnimationFrame(draw);
}

function report() {
  const [, , , speed] = drive.pose();
  times.push(drive.planTime());
  times = times.slice(-30);
  const sorted = [...times].sort((a, b) => a - b);
  byId('time').textContent = `${sorted[sorted.length >> 1].toFixed(1)} ms`;
  byId('effective').textContent = `${drive.effectiveSamples().toFixed(0)} of ${setting.rows()}`;
  byId('speed').textContent = `${speed.toFixed(2)} m/s`;
  byId('clearance').textContent = `${Math.max(0, drive.clearance()).toFixed(2)} m`;
  byId('collisions').textContent = drive.collisions();
}

/** Does what was wished for. What is refused is told and changes nothing. */
async function fulfill() {
  while (wishes.length) {
    const todo = wishes;
    wishes = [];
    for (const what of todo) {
      try {
        await what();
      } catch (refused) {
        if (isLost(refused)) throw refused;
        say(`${refused}.`);
      }
    }
  }
}

const isLost = error => `${error}`.includes('device was lost');

async function step() {
  const from = drive.pose().slice(0, 3);
  const begun = performance.now();
  const there = await drive.step(FAN);
  const to = drive.pose().slice(0, 3);
  const starts = !frame;
  const plan = drive.planned();
  frame = {
    from, to, time: performance.now(), size: drive.size(), goal: drive.goal(), radius: drive.radius(),
    fan: drive.fan(), plan, stride: plan.length,
  };
  trail.push(to[0], to[1]);
  trail = trail.slice(-2000);
  report();
  animate();
  if (there) say('Arrived. Click somewhere else.');
  else if (arrived !== there || starts) say('Driving');
  arrived = there;
  await new Promise(done => setTimeout(done, Math.max(0, STEP - (performance.now() - begun))));
}

async function loop() {
  const mine = drive;
  try {
    while (drive === mine) {
      await fulfill();
      if (arrived || paused) await new Promise(done => { wake = done; if (wishes.length) done(); });
      else await step();
    }
  } catch (error) {
    if (drive === mine) {
      fail(`The planner stopped: ${error}. Reload the page to start again.`);
    }
  }
}

async function open() {
  const backend = byId('backend').value;
  say('Opening the device and compiling');
  byId('error').hidden = true;
  drive = frame = null;
  try {
    const opened = await Page.open(backend, ...settings());
    if (backend !== byId('backend').value) return;
    drive = opened;
  } catch (error) {
    fail(`${error}.`.replace(/^./, first => first.toUpperCase()));
    return;
  }
  [trail, times, arrived, wishes] = [[], [], false, []];
  const name = drive.engine();
  byId('device').textContent = backend === 'auto' ? `${name}: ${drive.reason()}.` : name;
  paintMap();
  mixInks();
  loop();
}

/** The place on the map (in meters). While a plan is being made the drive itself cannot be asked. */
function place(event) {
  const [width, height, resolution] = frame.size;
  const box = canvas.getBoundingClientRect();
  const scale = Math.max(width * resolution / box.width, height * resolution / box.height);
  return [(event.clientX - box.left) * scale, height * resolution - (event.clientY - box.top) * scale];
}

function goTo(x, y) {
  wish(() => {
    drive.setGoal(x, y);
    frame.goal = drive.goal();
    arrived = false;
    say('Driving');
  });
}

let pressed = null;
canvas.addEventListener('pointerdown', event => {
  if (!drive || !frame) return;
  canvas.setPointerCapture(event.pointerId);
  pressed = { at: place(event), dragged: false };
});
canvas.addEventListener('pointermove', event => {
  if (!drive || !pressed) return;
  const [x, y] = place(event);
  if (Math.hypot(x - pressed.at[0], y - pressed.at[1]) < BRUSH) return;
  const from = pressed.at;
  pressed = { at: [x, y], dragged: true };
  wish(() => {
    // Between two events there may be a long way.
    const pieces = Math.ceil(Math.hypot(x - from[0], y - from[1]) / BRUSH);
    for (let i = 1; i <= pieces; i++) {
      drive.addObstacle(from[0] + i / pieces * (x - from[0]), from[1] + i / pieces * (y - from[1]), BRUSH);
    }
    paintMap();
  });
});
canvas.addEventListener('pointerup', event => {
  if (drive && pressed && !pressed.dragged) goTo(...place(event));
  pressed = null;
});
canvas.addEventListener('keydown', event => {
  const move = { ArrowLeft: [-0.25, 0], ArrowRight: [0.25, 0], ArrowDown: [0, -0.25], ArrowUp: [0, 0.25] }[event.key];
  if (!drive || !frame || !move) return;
  event.preventDefault();
  const [x, y] = frame.goal;
  goTo(x + move[0], y + move[1]);
});
for (const name of Object.keys(setting)) {
  byId(name).addEventListener('input', showSettings);
  byId(name).addEventListener('change', () => wish(() => drive.set(...settings())));
}
byId('backend').addEventListener('change', open);
byId('pause').addEventListener('click', () => {
  paused = !paused;
  byId('pause').textContent = paused ? 'Continue' : 'Pause';
  wake();
});
byId('clear').addEventListener('click', () => wish(() => { drive.clear(); paintMap(); }));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => wish(() => { paintMap(); mixInks(); }));
byId('panel').addEventListener('submit', event => event.preventDefault());

showSettings();
const asked = query.get('backend');
if (asked && ![...byId('backend').options].some(option => option.value === asked)) {
  byId('backend').add(new Option(asked === 'software' ? 'a software adapter' : asked, asked));
}
if (asked) byId('backend').value = asked;
if (typeof WebAssembly !== 'object' || !WebAssembly.validate(SIMD)) {
  fail('This browser has no WebAssembly with simd128, which this page needs: a newer browser is needed.');
} else {
  try {
    await init();
    await open();
  } catch (error) {
    fail(`The page could not be loaded: ${error}.`);
  }
}
// For tests.
globalThis.page = { state: () => ({ arrived, frame, trail }), wish, drive: () => drive };
