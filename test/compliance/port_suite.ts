/** hal/api/hba.ts and what it shares with nic.ts: listening, addresses, names. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  dial,
  dialHost,
  type HalBench,
  listenForEars,
  listenOutcome,
  type Pair,
  pattern,
  type StreamEar,
  sameBytes,
} from "./bench.ts";

export function portSuite(name: string, newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: ports`);
  let bench: HalBench;
  test.before.each(async () => {
    bench = await newBench();
  });
  test.after.each(async () => {
    await bench.close();
  });
  const open = async (appliance: string) => (await bench.open({ appliance, persistence: "battery" })).hal;

  test("a board is opened -> its ports and NICs have their names and protocol", async () => {
    const hal = await open("oak-a");
    assert.equal(
      hal.hbaPorts.map((port) => [port.name, port.protocol]),
      [
        ["hba0", "nbd"],
        ["hba1", "nbd"],
      ],
    );
    assert.equal(
      hal.nics.map((nic) => nic.name),
      ["nic0", "nic1"],
    );
  });

  test("every port listens -> each has an address of its own, with a real port", async () => {
    const hal = await open("oak-a");
    const ports = [...hal.hbaPorts, ...hal.nics];
    for (const port of ports) await listenForEars(bench, port);
    const addresses = ports.map((port) => port.address);
    assert.is(new Set(addresses).size, 4);
    for (const address of addresses) assert.match(address, /^\S+:[1-9]\d*$/);
  });

  test("a port listens twice -> the second time fails with a text that names the address", async () => {
    const hal = await open("oak-a");
    for (const port of [hal.hbaPorts[0]!, hal.nics[0]!]) {
      await listenForEars(bench, port);
      const error = await listenOutcome(bench, port, []);
      assert.ok(error?.includes(port.address), `"${error}" names ${port.address}`);
    }
  });

  test("fifty hosts on two ports -> each session has its own bytes, and a remote", async () => {
    const hal = await open("oak-a");
    const pairs: Pair[] = [];
    for (const port of hal.hbaPorts) {
      const accepted = await listenForEars(bench, port);
      for (let count = 0; count < 25; count++) pairs.push(await dialHost(bench, port.address, accepted));
    }
    for (const [index, pair] of pairs.entries()) await pair.dialer.send(bench, pattern(2000, index + 1));
    await bench.until("all bytes", () => pairs.every((pair) => pair.acceptor.receivedBytes >= 2000));
    for (const [index, pair] of pairs.entries()) {
      sameBytes(pair.acceptor.received(), pattern(2000, index + 1), `session ${index}`);
      assert.ok(pair.acceptor.stream.remote.length > 0);
    }
    await abortAll(bench, pairs);
  });

  test("a port is closed -> open sessions stay, new ones fail", async () => {
    const hal = await open("oak-a");
    const port = hal.hbaPorts[0]!;
    const accepted = await listenForEars(bench, port);
    const pair = await dialHost(bench, port.address, accepted);
    const address = port.address;
    port.close();
    await pair.dialer.send(bench, pattern(5000, 1));
    await bench.until("the bytes", () => pair.acceptor.receivedBytes >= 5000);
    let reason: string | null = null;
    bench.connectHost(
      address,
      () => {
        throw new Error("connected to a closed port");
      },
      (text) => {
        reason = text;
      },
    );
    await bench.until("the failure", () => reason !== null);
    assert.is(accepted.length, 1);
    await abortAll(bench, [pair]);
  });

  test("two appliances connect NIC to NIC -> each stream's remote is the other appliance's name", async () => {
    const oak = await open("oak-a");
    const elm = await open("elm-a");
    const accepted = await listenForEars(bench, elm.nics[0]!);
    const pairs = [
      await dial(bench, oak.nics[0]!, elm.nics[0]!, accepted),
      await dial(bench, oak.nics[1]!, elm.nics[0]!, accepted),
    ];
    for (const { dialer, acceptor } of pairs) {
      assert.is(dialer.stream.remote, "elm-a");
      assert.is(acceptor.stream.remote, "oak-a");
    }
    await abortAll(bench, pairs);
  });

  test("a NIC connects where nobody listens, or to what is no address -> failed with a reason, after the call", async () => {
    const oak = await open("oak-a");
    const elm = await open("elm-a");
    await listenForEars(bench, elm.nics[0]!);
    const address = elm.nics[0]!.address;
    elm.nics[0]!.close();
    for (const target of [address, "nowhere", ""]) {
      const reasons: string[] = [];
      let isInCall = true;
      oak.nics[0]!.connect(
        target,
        () => {
          throw new Error("connected");
        },
        (reason) => {
          assert.not(isInCall);
          reasons.push(reason);
        },
      );
      isInCall = false;
      await bench.until("the failure", () => reasons.length > 0);
      assert.ok(reasons[0]!.length > 0);
    }
  });

  test.run();
}

async function abortAll(bench: HalBench, pairs: readonly Pair[]): Promise<void> {
  const ears: StreamEar[] = pairs.flatMap(({ dialer, acceptor }) => [dialer, acceptor]);
  for (const ear of ears) ear.stream.abort();
  await bench.until("every end closed", () => ears.every((ear) => ear.closeCount === 1));
  for (const ear of ears) assert.equal(ear.violations, []);
}
