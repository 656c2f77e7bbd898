/** hal/linux/qmp_power.ts: a kill is proven by what the monitor says, and by nothing less. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { QmpPowerPort } from "../../hal/linux/qmp_power.ts";
import { FakeMonitor } from "./support/fake_monitor.ts";

interface Context {
  monitor: FakeMonitor;
  address: string;
}
const test = suite<Context>("qmp_power");
const clock = new LinuxClock();

test.before.each(async (context) => {
  context.monitor = new FakeMonitor();
  context.address = await context.monitor.listen();
});
test.after.each(async ({ monitor }) => {
  await monitor.close();
});

/** The doubt, or null: proven. */
function kill(address: string, limitMs?: number): Promise<string | null> {
  const port = new QmpPowerPort({
    target: "oak-b",
    monitor: address,
    clock,
    ...(limitMs === undefined ? {} : { limitMs }),
  });
  return new Promise((resolve) => port.kill(resolve));
}

const wholeKill = [
  "qmp_capabilities",
  "query-name",
  "query-status",
  "stop",
  "query-status",
  "system_reset",
  "query-status",
];

test("a running machine -> stopped, reset, and dead; nothing was claimed at once", async ({ monitor, address }) => {
  const port = new QmpPowerPort({ target: "oak-b", monitor: address, clock });
  assert.is(port.target, "oak-b");
  assert.is(port.isDead(), false);
  let isBack = false;
  const doubt = await new Promise<string | null>((resolve) => {
    port.kill((outcome) => {
      assert.ok(isBack, "done comes after the call has returned");
      resolve(outcome);
    });
    isBack = true;
  });
  assert.is(doubt, null);
  assert.equal(monitor.heard, wholeKill);
  assert.is(monitor.machine.state, "prelaunch");
});

test("restart -> what ran is switched on again after the proof, what did not stays off; failing at that is no doubt", async ({
  monitor,
  address,
}) => {
  const killAndRestart = () => {
    const port = new QmpPowerPort({ target: "oak-b", monitor: address, restart: true, clock });
    return new Promise<string | null>((resolve) => port.kill(resolve));
  };
  assert.is(await killAndRestart(), null);
  assert.equal(monitor.heard, [...wholeKill, "cont"]);
  assert.is(monitor.machine.state, "running");
  monitor.interfere = (command, socket) => {
    if (command === "cont") socket.destroy();
    return command === "cont";
  };
  assert.is(await killAndRestart(), null);
  for (const state of ["paused", "shutdown", "prelaunch"]) {
    monitor.machine.state = state;
    monitor.heard.length = 0;
    assert.is(await killAndRestart(), null);
    assert.equal(monitor.heard, wholeKill);
  }
});

test("a unix socket -> the same", async () => {
  const directory = mkdtempSync(join(tmpdir(), "goldcopy-qmp-"));
  const monitor = new FakeMonitor();
  assert.is(await kill(await monitor.listen(join(directory, "oak-b.qmp"))), null);
  assert.equal(monitor.heard, wholeKill);
  await monitor.close();
  rmSync(directory, { recursive: true });
});

test("a machine that is off, has crashed or stands still -> reset all the same", async ({ monitor, address }) => {
  for (const state of ["shutdown", "prelaunch", "paused", "guest-panicked", "io-error", "watchdog", "internal-error"]) {
    monitor.machine.state = state;
    assert.is(await kill(address), null, state);
    assert.is(monitor.machine.state, "prelaunch");
  }
});

test("answers in single bytes, with events between them -> the same", async ({ monitor, address }) => {
  monitor.chunkBytes = 1;
  monitor.events =
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n{"event": "RESET", "data": {"guest": false, "reason": "grün"}}\n';
  assert.is(await kill(address), null);
  assert.equal(monitor.heard, wholeKill);
});

test("the reset takes a while -> not dead before it is done", async ({ monitor, address }) => {
  let asked = 0;
  monitor.machine.reset = "paused";
  monitor.interfere = (command) => {
    if (command === "query-status" && monitor.heard.includes("system_reset") && ++asked === 4)
      monitor.machine.state = "prelaunch";
    return false;
  };
  assert.is(await kill(address), null);
  assert.is(asked, 4);
});

test("two kills at once -> one conversation after the other", async ({ monitor, address }) => {
  let most = 0;
  monitor.interfere = () => {
    most = Math.max(most, monitor.clients);
    return false;
  };
  const port = new QmpPowerPort({ target: "oak-b", monitor: address, clock });
  const one = () => new Promise<string | null>((resolve) => port.kill(resolve));
  assert.equal(await Promise.all([one(), one()]), [null, null]);
  assert.is(most, 1);
  assert.equal(monitor.heard, [...wholeKill, ...wholeKill]);
});

test("another machine, or one that goes elsewhere -> not touched, and no proof", async ({ monitor, address }) => {
  monitor.machine.name = "elm-a";
  assert.is(await kill(address), "the monitor is that of elm-a, not of oak-b (QEMU's -name)");
  monitor.machine.name = null;
  assert.is(await kill(address), "the monitor is that of a machine without a name, not of oak-b (QEMU's -name)");
  monitor.machine.name = "oak-b";
  for (const state of ["postmigrate", "inmigrate", "finish-migrate"]) {
    monitor.machine.state = state;
    assert.is(await kill(address), `oak-b is being moved to or from another host (${state})`);
  }
  assert.not.ok(monitor.heard.includes("stop"));
  assert.not.ok(monitor.heard.includes("system_reset"));
});

test("a machine that does not stand still when it was stopped -> no proof", async ({ monitor, address }) => {
  monitor.machine.stopped = "running";
  assert.is(await kill(address), "oak-b has been stopped and is running");
  monitor.machine.stopped = "save-vm";
  assert.is(await kill(address), "oak-b has been stopped and is save-vm");
  assert.not.ok(monitor.heard.includes("system_reset"));
});

test("a machine that is started again before it was seen off -> no proof in time", async ({ monitor, address }) => {
  monitor.machine.reset = "running";
  assert.match((await kill(address, 200)) ?? "proven", /^the monitor \S+: .* in 200 ms$/);
});

test("nobody there, or somebody who does not greet -> no proof, and why", async ({ monitor, address }) => {
  await monitor.close();
  assert.is(await kill(address), `the monitor ${address}: nobody listens there (ECONNREFUSED)`);
  assert.is(await kill("/nowhere/oak-b.qmp"), "the monitor /nowhere/oak-b.qmp: no such file or directory (ENOENT)");
  const silent = new FakeMonitor();
  silent.greeting = "";
  const there = await silent.listen();
  assert.is(await kill(there, 100), `the monitor ${there}: its greeting did not come in 100 ms`);
  assert.equal(silent.heard, []);
  await silent.close();
});

test("each command refused, unanswered, or broken off -> no proof, whatever was done before", async ({
  monitor,
  address,
}) => {
  for (const [index, command] of wholeKill.entries()) {
    const wasReached = () => monitor.heard.length === index + 1;
    const faults: [string, (socket: Parameters<FakeMonitor["interfere"]>[1]) => void, string][] = [
      [
        "refused",
        (socket) =>
          monitor.send(socket, `{"id": ${index + 1}, "error": {"class": "GenericError", "desc": "no\\nway"}}\n`),
        `the monitor ${address} refuses ${command}: no way`,
      ],
      ["silent", () => {}, `the monitor ${address}: the answer to ${command} did not come in 150 ms`],
      ["ended", (socket) => socket.end(), `the monitor ${address}: it has closed the connection`],
      ["reset", (socket) => socket.resetAndDestroy(), `the monitor ${address}: the connection has broken`],
      [
        "of another",
        (socket) => monitor.send(socket, `{"return": {"status": "prelaunch"}, "id": ${index + 2}}\n`),
        `the monitor ${address}: it answers something that was not asked`,
      ],
      ["garbled", (socket) => monitor.send(socket, "HTTP/1.1 400\n"), `the monitor ${address}: what it says is no QMP`],
      [
        "not text",
        (socket) => void socket.write(Buffer.from([0xff, 0xfe, 0x0a])),
        `the monitor ${address}: what it says is no QMP`,
      ],
      ["a list", (socket) => monitor.send(socket, "[]\n"), `the monitor ${address}: what it says is no QMP`],
      [
        "an error that is none",
        (socket) => monitor.send(socket, `{"id": ${index + 1}, "error": 7}\n`),
        `the monitor ${address}: what it says is no QMP`,
      ],
      [
        "endless",
        (socket) => monitor.send(socket, "x".repeat(70_000)),
        `the monitor ${address}: it sends a line of more than 65536 bytes: it is no QMP`,
      ],
    ];
    for (const [what, answer, expected] of faults) {
      monitor.heard.length = 0;
      monitor.machine.state = "running";
      monitor.interfere = (_, socket) => {
        if (!wasReached()) return false;
        answer(socket);
        return true;
      };
      assert.is(await kill(address, what === "silent" ? 150 : undefined), expected, `${command} ${what}`);
    }
  }
});

test("a greeting that is none -> no proof, nothing is ordered", async ({ monitor, address }) => {
  for (const [greeting, expected] of [
    ["220 mail ESMTP\r\n", "what it says is no QMP"],
    ['{"QMP": 7}\n', "it does not greet as QMP"],
    ['{"return": {}, "id": 1}\n', "it does not greet as QMP"],
  ] as const) {
    monitor.greeting = greeting;
    assert.is(await kill(address), `the monitor ${address}: ${expected}`);
  }
  assert.equal(monitor.heard, []);
});

test("an answer without its question -> no proof", async ({ monitor, address }) => {
  monitor.interfere = (command, socket) => {
    if (command === "system_reset")
      monitor.send(socket, '{"return": {}, "id": 6}\n{"return": {"status": "prelaunch"}, "id": 7}\n');
    return command === "system_reset";
  };
  assert.is(await kill(address), `the monitor ${address}: it says something that was not asked`);
});

test("a kill that failed -> the next one can succeed, and no connection is left", async ({ monitor, address }) => {
  monitor.interfere = () => true;
  assert.ok(await kill(address, 100));
  monitor.interfere = () => false;
  assert.is(await kill(address), null);
  while (monitor.clients > 0) await new Promise((resolve) => setImmediate(resolve));
});

test.run();
