// Loaded by web/test beside the page: tells when the robot has arrived, or that the page shows an error.
const tell = (what, text) => fetch(`/tell/${what}`, { method: 'POST', body: text });
const query = new URLSearchParams(location.search);
const text = id => document.getElementById(id).textContent;
const until = async condition => {
  while (!condition()) await new Promise(done => setTimeout(done, 50));
};
const isOver = () => !document.getElementById('error').hidden;

await until(() => globalThis.page || isOver());
if (query.get('lose')) {
  await until(() => isOver() || page.state().trail.length > 6);
  page.wish(() => page.drive().destroy());
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
    steps: trail.length / 2, end: [...trail.slice(-2)], goal: frame && [...frame.goal],
  }));
}
await tell('done', '');
