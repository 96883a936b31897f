// Loaded by web/test beside the page: tells when the robot has arrived, or that the page shows an error.
const tell = (what, text) => fetch(`/tell/${what}`, { method: 'POST', body: text });
const query = new URLSearchParams(location.search);
const text = id => document.getElementById(id).textContent;
const until = async condition => {
  while (!condition()) await new Promise(done => setTimeout(done, 50));
};
const isOver = () => !document.getElementById('error').hidden;

/** Moves a slider, clicks, and drags, as a user would; returns what it changed. */
async function useHand() {
  // While a plan is being made the drive itself cannot be asked.
  const count = () => page.drive().cells().filter(cell => cell === 2).length;
  const walls = () => new Promise(done => page.wish(() => done(count())));
  const strides = [page.state().frame.stride];
  const horizon = document.getElementById('horizon');
  horizon.value = 20;
  for (const kind of ['input', 'change']) horizon.dispatchEvent(new Event(kind, { bubbles: true }));
  await until(() => isOver() || page.state().frame.stride !== strides[0]);
  strides.push(page.state().frame.stride);

  const canvas = document.getElementById('map');
  // Events of a script have no pointer that could be captured.
  canvas.setPointerCapture = () => {};
  const pointer = (kind, [x, y]) => {
    const [width, height, resolution] = page.state().frame.size;
    const box = canvas.getBoundingClientRect();
    const scale = Math.max(width * resolution / box.width, height * resolution / box.height);
    const at = { clientX: box.left + x / scale, clientY: box.top + (height * resolution - y) / scale };
    canvas.dispatchEvent(new PointerEvent(kind, { pointerId: 1, bubbles: true, ...at }));
  };
  // Back to the start, which leaves the first goal free for an obstacle.
  const first = [...page.state().frame.goal];
  pointer('pointerdown', [3.9, 1.85]);
  pointer('pointerup', [3.9, 1.85]);
  await until(() => isOver() || page.state().frame.goal[0] !== first[0]);
  const before = await walls();
  pointer('pointerdown', first);
  pointer('pointermove', [first[0], first[1] - 0.4]);
  pointer('pointerup', [first[0], first[1] - 0.4]);
  return { strides, walls: [before, await walls()] };
}

await until(() => globalThis.page || isOver());
if (query.get('lose')) {
  await until(() => isOver() || page.state().trail.length > 6);
  page.wish(() => page.drive().destroy());
}
let hand;
if (query.get('hand')) {
  await until(() => isOver() || page.state().trail.length > 6);
  hand = await useHand();
}
if (query.get('shot')) {
  await until(() => isOver() || page.state().trail.length >= 2 * +query.get('shot'));
  await tell('device', `${text('device')} | ${text('time')}`);
  await tell('shot', '');
} else {
  await until(() => isOver() || page.state().arrived);
  const { trail, frame } = page.state();
  await tell('drive', JSON.stringify({
    error: text('error'), device: text('device'), collisions: text('collisions'), time: text('time'),
    steps: trail.length / 2, end: [...trail.slice(-2)], goal: frame && [...frame.goal], hand,
  }));
}
await tell('done', '');
