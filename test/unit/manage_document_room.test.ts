/** The array's document and the room that it has on the shelf (`array_document_holder.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ArrayDocument, newArrayDocument } from "../../firmware/manage/array_document.ts";
import { ArrayDocumentHolder } from "../../firmware/manage/array_document_holder.ts";
import type { HostJson } from "../../firmware/manage/status_json.ts";
import type { Pool, StoreError } from "../../firmware/store/store.ts";
import { PairBench } from "./support/pair_bench.ts";
import { StoreBench } from "./support/store_bench.ts";

const test = suite("manage_document_room");

/** As large as one may be. */
function largeHost(name: string) {
  const names = Array.from({ length: 64 }, (_, index) => `${name}-${String(index).padStart(2, "0")}`);
  const iqns = names.map((one) => `iqn.2026-11.test.host:${one}-`.padEnd(223, "x"));
  return { name, iqns, tlsNames: names.map((one) => one.padEnd(64, "x")) };
}

test("hosts as large as can be until no more fit -> the last one is refused and not there; everything else goes on", () => {
  const bench = new PairBench(1200);
  bench.startBoth();
  bench.untilHalves("a", "b");
  const added: string[] = [];
  let refused: string | null = null;
  while (refused === null) {
    const host = largeHost(`host${added.length}`);
    refused = bench.refusal(bench.a, "POST", "/v1/hosts", host);
    if (refused === null) added.push(host.name);
  }
  assert.is(refused, "no-space");
  assert.ok(added.length > 4);
  const listed = () =>
    bench
      .call<HostJson[]>(bench.b, "GET", "/v1/hosts")
      .map(({ name }) => name)
      .sort();
  assert.equal(listed(), added);
  // Small ones, up to the last byte.
  while (bench.refusal(bench.a, "POST", "/v1/hosts", { name: `small${added.length}`, any: true }) === null)
    added.push(`small${added.length}`);
  assert.equal(listed(), added.sort());
  for (const name of ["one", "two", "three"])
    bench.call(bench.a, "POST", "/v1/volumes", { name, sizeBytes: 1 << 20, owner: "oak-a" });
  bench.call(bench.a, "POST", "/v1/pair/move", { group: "one", to: "oak-b" });
  bench.b.machine.crash();
  bench.untilHalves("a", "a");
  bench.start(bench.b);
  bench.untilAllMirrored();
  bench.call(bench.a, "POST", "/v1/pair/failover", { home: true });
  bench.untilAllMirrored();
  assert.equal(listed(), added.sort());
  bench.call(bench.a, "DELETE", `/v1/hosts/${added[0]}`);
  assert.is(bench.refusal(bench.a, "POST", "/v1/hosts", { name: "another", any: true }), null);
});

/** A pool that answers when the test wants it. */
class FakePool {
  readonly asked: { readonly document: unknown; done(error: StoreError | null): void }[] = [];
  durable: unknown;
  #present: unknown;

  constructor(document: unknown) {
    this.durable = document;
    this.#present = document;
  }

  arrayDocument(): unknown {
    return structuredClone(this.#present);
  }

  saveArrayDocument(document: unknown, done: (error: StoreError | null) => void): void {
    this.#present = document;
    this.asked.push({ document, done });
  }

  answer(error: StoreError | null): void {
    const { document, done } = this.asked.shift()!;
    if (error === null) this.durable = document;
    else if (this.#present === document) this.#present = this.durable;
    done(error);
  }
}

test("saves that fail, one upon the other -> what is gone by is what was saved last, or what is on its way", async () => {
  const failed: StoreError = { code: "disk-failed", text: "as a test wants it" };
  for (const [first, second, left] of [
    [failed, null, ["b"]],
    [failed, failed, []],
    [null, failed, ["a"]],
    [null, null, ["b"]],
  ] as const) {
    const pool = new FakePool(newArrayDocument());
    const holder = new ArrayDocumentHolder(pool as unknown as Pool, newArrayDocument());
    const names = () => holder.document.caches.map(({ appliance }) => appliance);
    const withCache = (appliance: string): ArrayDocument => ({
      ...holder.document,
      caches: [{ appliance, current: null, next: null, needless: false }],
    });
    const saves = [holder.save(withCache("a")), holder.save(withCache("b"))];
    assert.equal(names(), ["b"]);
    pool.answer(first);
    assert.equal(names(), ["b"]);
    pool.answer(second);
    assert.equal(names(), left);
    assert.equal(await Promise.all(saves), [first, second]);
  }
});

test("a document that is too large already -> it may become smaller, and its caches change", async () => {
  const large = (index: number) => ({ any: false, addresses: [], chap: null, mappings: [], ...largeHost(`h${index}`) });
  const hosts = Array.from({ length: 6 }, (_, index) => large(index));
  const pool = new FakePool({ ...newArrayDocument(), hosts });
  const holder = new ArrayDocumentHolder(pool as unknown as Pool, { ...newArrayDocument(), hosts });
  const grown = await holder.save({ ...holder.document, hosts: [...hosts, large(6)] });
  assert.is(grown?.code, "no-space");
  assert.is(pool.asked.length, 0);
  for (const changed of [
    { ...holder.document, hosts: hosts.slice(1) },
    { ...holder.document, caches: [{ appliance: "a", current: null, next: null, needless: false }] },
  ]) {
    const saved = holder.save(changed);
    pool.answer(null);
    assert.is(await saved, null);
  }
});

test("the disks do not take the array's document -> the pool goes on with the former one", () => {
  const bench = new StoreBench({ seed: 24 });
  const { shelf } = bench;
  bench.create("first");
  const save = (document: unknown) =>
    bench.wait<StoreError | null>((done) => bench.pool!.saveArrayDocument(document, done));
  assert.is(save({ named: "one" }), null);
  shelf.disk(0).failNext("write");
  assert.is(save({ named: "two" })?.code, "disk-failed");
  assert.equal(bench.pool!.arrayDocument(), { named: "one" });
  bench.createGroup("ffeeddccbbaa99887766554433221100", "other");
  bench.crash();
  bench.reopen();
  assert.equal(bench.pool!.arrayDocument(), { named: "one" });
});

test("the pool's document is full to the last byte -> a group that is made is refused, and nothing else happens", () => {
  const bench = new StoreBench({ seed: 25 });
  bench.create("first");
  let padding = 128 * 1024;
  const save = () =>
    bench.wait<StoreError | null>((done) => bench.pool!.saveArrayDocument({ padding: "x".repeat(padding) }, done));
  while (save() !== null) padding -= 1;
  const refused = bench.wait<StoreError | null>((done) =>
    bench.pool!.createGroup("ffeeddccbbaa99887766554433221100", "other", (error) => done(error)),
  );
  assert.is(refused?.code, "no-space");
  assert.is(bench.pool!.groupIds().length, 1);
  padding -= 100;
  assert.is(save(), null);
  bench.createGroup("ffeeddccbbaa99887766554433221100", "other");
});

test.run();
