/** Names and LUNs of the array, given out by operators at both appliances at once (`array_turns.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import type { HostJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import { ArrayTurns } from "../../firmware/pair/array_turns.ts";
import type { PairBench, PairMachine } from "./support/pair_bench.ts";
import { mebibyte, twoHalves } from "./support/two_halves.ts";

const test = suite("pair_array_turns");

type Asked = readonly [at: PairMachine, path: string, body: object];

/** All at once; statuses of the answers. */
function together(bench: PairBench, asked: readonly Asked[]): number[] {
  const answers = asked.map(([at, path, body]) => at.api!("POST", path, JSON.stringify(body)));
  return bench.answer(Promise.all(answers)).map(({ status }) => status);
}

function lunsOf(bench: PairBench, host: string): number[] {
  const { mappings } = bench.call<HostJson>(bench.a, "GET", `/v1/hosts/${host}`);
  return mappings.map(({ lun }) => lun).sort();
}

test("volumes of different halves are mapped at both appliances at once -> each gets a LUN of its own", () => {
  const bench = twoHalves(1210);
  const { a, b } = bench;
  bench.call(a, "POST", "/v1/hosts", { name: "h", any: true });
  const map = "/v1/hosts/h/map";
  for (const at of [
    [a, b],
    [b, a],
    [b, b],
  ] as const) {
    const answers = together(bench, [
      [at[0], map, { volume: "one" }],
      [at[1], map, { volume: "two" }],
    ]);
    assert.equal(answers, [200, 200]);
    assert.equal(lunsOf(bench, "h"), [0, 1]);
    for (const volume of ["one", "two"]) bench.call(b, "POST", "/v1/hosts/h/unmap", { volume });
  }
  const wanted = together(bench, [
    [a, map, { volume: "one", lun: 7 }],
    [b, map, { volume: "two", lun: 7 }],
  ]);
  assert.equal(wanted.sort(), [200, 409]);
  assert.equal(lunsOf(bench, "h"), [7]);
});

test("volumes, groups and hosts of one name at both appliances at once -> one is there", () => {
  const bench = twoHalves(1211);
  const { a, b } = bench;
  for (const [path, body] of [
    ["/v1/volumes", { name: "three", sizeBytes: mebibyte }],
    ["/v1/groups", { name: "four" }],
  ] as const) {
    const answers = together(bench, [
      [a, path, { ...body, owner: "oak-a" }],
      [b, path, { ...body, owner: "oak-b" }],
    ]);
    assert.equal(answers.sort(), [200, 409]);
  }
  const hosts = together(bench, [
    [a, "/v1/hosts", { name: "h", any: true }],
    [b, "/v1/hosts", { name: "h", addresses: ["192.0.2.1"] }],
  ]);
  assert.equal(hosts.sort(), [200, 409]);
  const volumes = bench.call<VolumeJson[]>(b, "GET", "/v1/volumes").map(({ name }) => name);
  assert.equal(volumes.sort(), ["one", "three", "two"]);
});

test("one appliance is down, whichever -> the other one gives out names and LUNs as before", () => {
  for (const seed of [1212, 1213]) {
    const bench = twoHalves(seed);
    const [victim, left] = seed === 1212 ? [bench.a, bench.b] : [bench.b, bench.a];
    victim.machine.crash();
    const both = left === bench.a ? "a" : "b";
    // Who gives them out has just died, or nobody has.
    const early = together(bench, [[left, "/v1/volumes", { name: "early", sizeBytes: mebibyte }]]);
    assert.ok([200, 503].includes(early[0]!));
    bench.untilHalves(both, both);
    bench.call(left, "POST", "/v1/volumes", { name: "late", sizeBytes: mebibyte });
    const { mappings } = bench.call<HostJson>(left, "POST", "/v1/hosts/any/map", { volume: "late" });
    assert.equal(mappings.map(({ lun }) => lun).sort(), [0, 1, 2]);
    bench.call(left, "POST", "/v1/hosts/any/unmap", { volume: "late" });
  }
});

test("a partner that is older than the turns -> its answer says so, and the command has its way as before", async () => {
  const turns = new ArrayTurns({
    isOwner: () => false,
    askOwner: async (_, path): Promise<ApiAnswer> => {
      const isGone = path.endsWith("gone");
      const text = isGone ? "there is no host gone" : `no such resource: ${path}`;
      return { status: 404, body: { error: { code: "not-found", text } } };
    },
    unsettled: () => ({ status: 503, body: null }),
    run: async (method, path) => ({ status: 200, body: `${method} ${path}` }),
  });
  assert.equal(await turns.take("POST", "/v1/volumes", "{}"), { status: 200, body: "POST /v1/volumes" });
  assert.is((await turns.take("DELETE", "/v1/hosts/gone", "")).status, 404);
  assert.is((await turns.takeForPartner("POST", "/array/v1/volumes", "{}"))?.status, 503, "it is not the owner");
  assert.is(turns.takeForPartner("POST", "/v1/volumes", "{}"), null);
});

test.run();
