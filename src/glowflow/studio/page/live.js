// What follows a slider: always the newest value, the last never lost.

const RETRIES = 5;
const QUICK = 60; // milliseconds: a second request is on its way while the first is computed, if that is soon
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export function newestWins(send, show, failed) {
  let wanted = null;
  let running = 0;
  let sent = 0;
  let shown = 0;
  let took = 0;

  async function run() {
    running += 1;
    while (wanted !== null) {
      const { value, since } = wanted;
      wanted = null;
      sent += 1;
      await one(value, since, sent);
    }
    running -= 1;
  }

  async function one(value, since, number) {
    for (let retry = 0; ; retry += 1) {
      try {
        const start = performance.now();
        const result = await send(value);
        took = performance.now() - start;
        if (number < shown) return; // a newer one was faster
        shown = number;
        show(result, value);
        document.dispatchEvent(new CustomEvent("shown", { detail: { value, since } }));
        return;
      } catch (error) {
        if (wanted !== null || number < sent) return; // a newer value takes its place
        if (error.status !== 503 || retry === RETRIES) { failed(error); return; }
        await wait(200 * (retry + 1));
      }
    }
  }

  return (value, since = performance.now()) => {
    wanted = { value, since };
    if (!running || (running === 1 && took < QUICK)) run();
  };
}
