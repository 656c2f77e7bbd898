/**
 * The power port for virtual machines on a real QEMU: the compliance suite, with a machine that writes to its disk for as long as its
 * processor runs; and what is no proof.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { QmpPowerPort, stateOf } from "../../hal/linux/qmp_power.ts";
import { emulator } from "../../scripts/image_build/machine.ts";
import { until } from "../compliance/linux_bench.ts";
import { powerSuite } from "../compliance/power_suite.ts";
import { testWith } from "./support/clients.ts";
import { CountingMachine } from "./support/counting_machine.ts";

const clock = new LinuxClock();
const portOf = (machine: CountingMachine, limitMs = 20_000) =>
  new QmpPowerPort({ target: "oak-b", monitor: machine.monitor, clock, limitMs });
const killBy = (port: QmpPowerPort) => new Promise<string | null>((resolve) => port.kill(resolve));

powerSuite("qmp", async () => {
  const machine = new CountingMachine("oak-b");
  await machine.ask(stateOf);
  return {
    port: portOf(machine),
    knowsAtOnce: false,
    until,
    startTarget: () => machine.switchOn(),
    stallTarget: () => machine.ask((monitor) => monitor.execute("stop")).then(() => {}),
    targetRuns: () => machine.runs(),
    close: () => machine.close(),
  };
});

const test = suite("qmp_power: no proof");
let machine: CountingMachine;
test.before.each(async () => {
  machine = new CountingMachine("oak-b");
  await machine.switchOn();
});
test.after.each(async () => {
  await machine.close();
});

testWith(test, [emulator], "QEMU itself stands still -> not proven; it goes on -> proven", async () => {
  machine.signal("SIGSTOP");
  await until("the stop of QEMU", () => !machine.runs());
  assert.is(await killBy(portOf(machine, 500)), `the monitor ${machine.monitor}: its greeting did not come in 500 ms`);
  machine.signal("SIGCONT");
  assert.is(machine.runs(), true);
  assert.is(await killBy(portOf(machine)), null);
  assert.is(machine.runs(), false);
  assert.is(await machine.ask(stateOf), "prelaunch");
});

testWith(test, [emulator], "QEMU has died -> not proven: its monitor cannot say so", async () => {
  machine.signal("SIGKILL");
  await until("the end of QEMU", () => !machine.isThere);
  assert.match((await killBy(portOf(machine))) ?? "proven", /nobody listens there \(ECONNREFUSED\)$/);
});

testWith(test, [emulator], "another client holds the monitor -> not proven, and the machine goes on", async () => {
  const held = await Bun.connect({ unix: machine.monitor, socket: { data() {} } });
  assert.match((await killBy(portOf(machine, 500))) ?? "proven", /its greeting did not come in 500 ms$/);
  assert.is(machine.runs(), true);
  held.terminate();
  assert.is(await killBy(portOf(machine)), null);
});

testWith(test, [emulator], "another machine's monitor -> it goes on", async () => {
  const port = new QmpPowerPort({ target: "oak-c", monitor: machine.monitor, clock });
  assert.is(await killBy(port), "the monitor is that of oak-b, not of oak-c (QEMU's -name)");
  assert.is(machine.runs(), true);
});

test.run();
