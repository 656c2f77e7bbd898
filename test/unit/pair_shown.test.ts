/** What the status of a pair says when something is not as it should be, and what a command answers then (`pair_report.ts`, `pair_api.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import type { PairStatusJson, StatusJson, WarningJson } from "../../firmware/manage/status_json.ts";
import type { Disk } from "../../hal/api/shelf.ts";
import { PairBench, type PairMachine } from "./support/pair_bench.ts";
import { twoHalves } from "./support/two_halves.ts";

const test = suite("pair_shown");

const statusOf = (bench: PairBench, at: PairMachine) => bench.call<StatusJson>(at, "GET", "/v1/status");
const pairOf = (bench: PairBench, at: PairMachine) => bench.call<PairStatusJson>(at, "GET", "/v1/pair");
const has = ({ warnings }: { warnings: readonly WarningJson[] }, code: string, text = /./) =>
  warnings.some((warning) => warning.code === code && text.test(warning.text));

function states(bench: PairBench, at: PairMachine): Record<string, string> {
  return Object.fromEntries(statusOf(bench, at).appliances.map(({ name, state }) => [name, state]));
}

/** The disk takes nothing from this appliance, until it is put right. */
function breakFor(machine: PairMachine): () => void {
  const disk = machine.hal!.shelves[0]!.disks[0]! as { write: Disk["write"] };
  const { write } = disk;
  disk.write = (_offset, _parts, done) => {
    machine.hal!.clock.defer(() => done({ code: "failed", text: "the disk is gone" }));
  };
  return () => {
    disk.write = write;
  };
}

test("the standby's disk takes nothing -> either appliance says so, nothing is handed to it, and hosts do not notice", () => {
  const bench = twoHalves(1310);
  bench.call(bench.a, "POST", "/v1/pair/failover", { to: "oak-a" });
  bench.untilAllMirrored();
  const repair = breakFor(bench.b);
  bench.runFor(500);
  for (const at of bench.machines)
    assert.ok(has(statusOf(bench, at), "pair-disks-missing", /oak-b does not reach shelf0\/0/), at.name);
  for (const at of bench.machines) assert.ok(has(pairOf(bench, at), "pair-disks-missing"), at.name);
  const starts = bench.b.events.filter(({ code }) => code === "start-refused").length;
  assert.is(bench.refusal(bench.a, "POST", "/v1/pair/failover", { to: "oak-b" }), "not-connected");
  assert.is(bench.b.events.filter(({ code }) => code === "start-refused").length, starts);
  repair();
  bench.until("it is seen", () => !has(statusOf(bench, bench.a), "pair-disks-missing"));
  bench.call(bench.a, "POST", "/v1/pair/failover", { to: "oak-b" });
  bench.untilHalves("b", "b");
});

test("a slot of the standby is empty -> pair status at the standby itself says that it could not take over", () => {
  const bench = twoHalves(1320);
  bench.call(bench.a, "POST", "/v1/pair/failover", { to: "oak-a" });
  bench.untilAllMirrored();
  bench.b.machine.crash();
  bench.until("b is lost", () => bench.a.state === "degraded");
  bench.shelf.unplug("oak-b", 1);
  bench.start(bench.b);
  bench.untilAllMirrored();
  for (const at of bench.machines)
    assert.ok(has(pairOf(bench, at), "pair-disks-missing", /oak-b does not reach/), at.name);
});

test("the power port of one that owns nothing is another's -> the status of both says that nothing would be taken over", () => {
  const bench = twoHalves(1311);
  bench.call(bench.a, "POST", "/v1/pair/failover", { to: "oak-a" });
  bench.untilAllMirrored();
  Object.assign(bench.b.hal!.power!, { isDead: () => true });
  bench.until("it is seen", () => bench.b.saw("power-port-wrong"));
  for (const at of bench.machines)
    assert.ok(has(statusOf(bench, at), "power-port-wrong", /port of oak-b is not that of oak-a/), at.name);
});

test("the interconnect is cut -> both appliances are up, and what needs both halves says so at either", () => {
  const bench = twoHalves(1312);
  bench.cut(true);
  bench.runFor(5000);
  for (const at of bench.machines) {
    assert.equal(states(bench, at), { "oak-a": "up", "oak-b": "up" });
    assert.is(statusOf(bench, at).pair!.state, "isolated");
    assert.ok(has(statusOf(bench, at), "pair-degraded", /it lives, and does not answer on the interconnect/));
    for (const [path, body] of [
      ["/v1/pair/failover", { home: true }],
      ["/v1/pair/failover", { to: "oak-a" }],
      ["/v1/pair/failover", { to: "oak-b" }],
      ["/v1/groups", { name: "three" }],
      ["/v1/hosts", { name: "another", any: true }],
    ] as const)
      assert.is(bench.refusal(at, "POST", path, body), "not-connected", `${at.name} ${path}`);
  }
  assert.is(bench.refusal(bench.a, "POST", "/v1/pair/move", { group: "one", to: "oak-b" }), "not-connected");
  // Its partner has it, and is reached by itself.
  bench.a.machine.crash();
  bench.untilHalves("b", "b");
  assert.is(states(bench, bench.b)["oak-a"], "down");
  bench.start(bench.a);
  bench.runFor(5000);
  assert.is(pairOf(bench, bench.a).state, "isolated", "not for ever starting");
  assert.ok(has(statusOf(bench, bench.a), "pair-isolated", /oak-b is alive/));
  assert.equal(states(bench, bench.a), { "oak-a": "starting", "oak-b": "up" });
  bench.cut(false);
  bench.untilAllMirrored();
});

test("the partner falls silent and cannot be proven dead -> nobody calls that a cut interconnect, and the status says what to do", () => {
  const bench = twoHalves(1319);
  bench.b.machine.powerFaults.broken = "alive";
  bench.a.machine.pause();
  const seen = new Set<string>();
  for (let ms = 0; ms < 5000; ms += 50) {
    bench.runFor(50);
    seen.add(pairOf(bench, bench.b).state);
  }
  assert.equal([...seen], ["mirrored", "starting"]);
  assert.equal(states(bench, bench.b)["oak-a"], "down");
  assert.ok(has(statusOf(bench, bench.b), "partner-not-fenced", /oak-a could not be proven dead/));
  assert.is(bench.refusal(bench.b, "POST", "/v1/pair/failover", { to: "oak-b" }), "starting");
  bench.a.machine.resume();
  bench.untilAllMirrored();
  assert.not(has(statusOf(bench, bench.b), "partner-not-fenced"));
});

test("a failover whose caller does not wait -> both halves go all the same; another one meanwhile is refused", () => {
  const bench = twoHalves(1313);
  bench.untilAllMirrored();
  assert.is(bench.refusal(bench.b, "POST", "/v1/pair/failover", { to: "oak-b", timeoutMs: 1 }), "timeout");
  assert.is(bench.refusal(bench.b, "POST", "/v1/pair/failover", { to: "oak-a" }), "busy");
  bench.untilHalves("b", "b");
  bench.untilAllMirrored();
  bench.runFor(1000);
  assert.is(bench.refusal(bench.b, "POST", "/v1/pair/failover", { to: null, timeoutMs: 1 }), "timeout");
  bench.untilHalves("a", "a");
  bench.untilAllMirrored();
  bench.runFor(1000);
  bench.call(bench.b, "POST", "/v1/pair/failover", { home: true });
  bench.untilHalves("a", "b");
});

test("a failover with words that mean nothing -> refused at once, whoever owns what", () => {
  const bench = twoHalves(1314);
  for (const words of [{ timeoutMs: "x" }, { timeoutMs: 0 }, { home: 1 }, { by: "me" }, { to: 7 }, { to: "" }])
    for (const at of bench.machines)
      assert.is(
        bench.refusal(at, "POST", "/v1/pair/failover", { home: true, ...words }),
        "invalid",
        JSON.stringify(words),
      );
  bench.untilHalves("a", "b");
});

test("a failover whose body is no JSON object -> refused, and nothing moves", () => {
  const bench = twoHalves(1318);
  for (const body of ["{", "[1]", "7", "null", '{"to":"oak-a"'])
    for (const { api } of bench.machines)
      assert.is(bench.answer(api!("POST", "/v1/pair/failover", body)).status, 400, body);
  bench.runFor(1000);
  bench.untilHalves("a", "b");
});

test("a command that may take ten minutes, given at the one that does not own -> is waited for so long", () => {
  const bench = twoHalves(1315);
  const { api } = bench.a.appliance!.halves[0]!;
  let end = (_: ApiAnswer): void => {};
  bench.a.appliance!.halves[0]!.api = (method, path, body) =>
    path === "/v1/groups/one/resync" ? new Promise((resolve) => (end = resolve)) : api!(method, path, body);
  let answer: ApiAnswer | null = null;
  const body = JSON.stringify({ from: "elm", timeoutMs: 600_000 });
  void bench.b.api!("POST", "/v1/groups/one/resync", body).then((got) => (answer = got));
  bench.runFor(300_000);
  assert.is(answer, null);
  end({ status: 200, body: {} });
  bench.until("it is answered", () => answer !== null);
  assert.equal(answer, { status: 200, body: {} });
});

test("profiles that differ where they must not -> a warning at both; none where they are as they should be", () => {
  const bench = new PairBench(1316);
  bench.start(bench.a);
  bench.start(bench.b, {}, { heartbeatMs: 50, limitMs: 250, hungMs: 1000 });
  bench.untilHalves("a", "b");
  bench.untilAllMirrored();
  bench.runFor(500);
  const text = /oak-a after 1000 ms, .*oak-b after 250 ms/;
  for (const at of bench.machines) assert.ok(has(statusOf(bench, at), "pair-profiles-differ", text), at.name);
  bench.b.machine.crash();
  bench.untilHalves("a", "a");
  bench.start(bench.b);
  bench.untilAllMirrored();
  bench.runFor(1000);
  for (const at of bench.machines) assert.equal(statusOf(bench, at).warnings, [], at.name);
});

test("without its partner, by the operator's choice from its own cache -> pair status does not say that it waits for the shelf", () => {
  const bench = new PairBench(1317, { writesBackAlone: true });
  bench.startBoth();
  bench.untilAllMirrored();
  assert.not(pairOf(bench, bench.a).writesBackAlone);
  bench.b.machine.crash();
  bench.until("write-back", () => pairOf(bench, bench.a).writesBackAlone);
  assert.ok(has(pairOf(bench, bench.a), "pair-writes-back-alone"));
});

test.run();
