// graphile-worker, as the programs that benchmarks/servers/program.py describes: plain, or in batches.
// Finished jobs are deleted.

import { createInterface } from "node:readline";
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const TELLING = 20; // milliseconds between two lines of a worker
const BATCHES = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };

const [mode, argument] = process.argv.slice(2);
const order = JSON.parse(argument);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const logger = new Logger(() => () => {});

const roles = {
  async install() {
    const utils = await makeWorkerUtils({ connectionString: order.url, logger });
    await utils.migrate();
    await utils.release();
  },

  async client() {
    const utils = await makeWorkerUtils({ connectionString: order.url, maxPoolSize: order.connections, logger });
    tell({ ready: true });
    for await (const line of lines) {
      const { do: way, ...asked } = JSON.parse(line);
      tell(await ways[way](utils, asked));
    }
    await utils.release();
  },

  async worker() {
    tell({ ready: true });
    await lines.next();
    const ran = { count: 0, first: 0n, last: 0n, reached: [] };
    keepTelling(ran);
    const worker = await run({
      connectionString: order.url,
      logger,
      noHandleSignals: true,
      taskList: {
        send: async (payload) => {
          ran.last = now();
          ran.first ||= ran.last;
          ran.count += 1;
          if (order.starts) ran.reached.push([payload.n, Number(ran.last)]);
        },
      },
      preset: { worker: { concurrentJobs: 24, ...(mode === "batches" ? BATCHES : {}) } },
    });
    await worker.promise;
  },
};

const ways = {
  // Each awaited before the next: seconds of each.
  async one_by_one(utils, { count }) {
    const took = [];
    for (const mail of mails(count)) {
      const before = now();
      await utils.addJob("send", mail);
      took.push(secondsSince(before));
    }
    return { took };
  },

  // So many callers, each with one job at a time.
  async at_once(utils, { count, callers }) {
    const work = mails(count);
    const caller = async () => {
      while (work.length) await utils.addJob("send", work.pop());
    };
    const before = now();
    const cpu = cpuSeconds();
    await Promise.all(Array.from({ length: callers }, caller));
    return { seconds: secondsSince(before), cpu: cpuSeconds() - cpu, began: Number(before) };
  },

  // One call.
  async many(utils, { count }) {
    const work = mails(count);
    const before = now();
    const cpu = cpuSeconds();
    await utils.addJobs(work.map((payload) => ({ identifier: "send", payload })));
    return { seconds: secondsSince(before), cpu: cpuSeconds() - cpu };
  },

  // One job after each pause: when it was called for.
  async paced(utils, { count, pause }) {
    const called = [];
    for (const mail of mails(count)) {
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
      called.push([mail.n, Number(now())]);
      await utils.addJob("send", mail);
    }
    return { called };
  },
};

function keepTelling(ran) {
  const cpu = cpuSeconds();
  let told = 0;
  setInterval(() => {
    if (ran.count === told) return;
    told = ran.count;
    const reached = ran.reached.splice(0);
    tell({ ran: told, first: Number(ran.first), last: Number(ran.last), cpu: cpuSeconds() - cpu, reached });
  }, TELLING);
}

function mails(count) {
  return Array.from({ length: count }, (_, n) => ({ to: "my@email.com", n }));
}

// The clock that all processes of a machine share, as Python's time.monotonic_ns.
function now() {
  return process.hrtime.bigint();
}

function secondsSince(before) {
  return Number(now() - before) / 1e9;
}

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

await roles[order.role]();
