// What web/test asks its module, without the page.
import init, { testErrors, testPlans, testSpeed } from './gibbs_web_test.js';

const query = new URLSearchParams(location.search);
const tell = (what, text) => fetch(`/tell/${what}`, { method: 'POST', body: text });
try {
  await init();
  const backend = query.get('backend');
  await tell('plans', await testPlans(backend));
  if (backend !== 'cpu') await tell('errors', await testErrors(backend));
  const speed = [];
  for (const [rows, horizon] of [[128, 20], [1024, 50], [8192, 100]]) {
    speed.push(`${rows} x ${horizon}: ${(await testSpeed(backend, rows, horizon, 15))[0].toFixed(2)} ms`);
  }
  await tell('speed', speed.join(', '));
} catch (error) {
  await tell('failed', `${error}`);
}
await tell('done', '');
