/**
 * Random operations on both halves of a pool beside a model: groups made, written, moved and removed, slabs ceded, with deaths of either
 * appliance or both in the middle, and the survivor taking over what the dead one had.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Half } from "../../firmware/store/geometry.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { bothHalves, deaths, dies, HalvesBench, other } from "./support/halves_bench.ts";
import { mebibyte } from "./support/store_bench.ts";

const test = suite("store_halves_random");

/** More seeds: STORE_SEEDS=1..500. */
const [firstSeed, lastSeed] = (process.env["STORE_SEEDS"] ?? "1..4").split("..").map(Number) as [number, number];
const groupsMax = 4;
const hotBlocks = 40;

class HalvesModel {
  readonly bench: HalvesBench;
  readonly prng: Prng;
  /** By group: the tags of its blocks. */
  readonly groups = new Map<string, number[]>();
  #names = 1;
  #tag = 1;

  constructor(seed: number) {
    this.bench = new HalvesBench({ seed, groupsMax }).create();
    this.prng = new Prng(seed, "halves");
  }

  /** One operation; with `chance` an appliance dies in it, and everything is settled afterwards. */
  step(chance: number): void {
    const { prng, bench } = this;
    const victim = prng.pick(bothHalves);
    const work = this.#draw();
    const effect = prng.chance(chance) ? 1 + prng.below(45) : Number.POSITIVE_INFINITY;
    if (!dies(bench, victim, effect, prng.pick(deaths), work.run)) {
      work.ended();
      return;
    }
    this.#recover();
    // It came about or it did not; the group is whole in either case.
    const isThere = bothHalves.some((half) => bench.pool(half).groupIds().includes(work.id));
    if (work.kind === "create" && isThere) this.groups.set(work.id, new Array<number>(hotBlocks).fill(0));
    if (work.kind === "remove" && !isThere) this.groups.delete(work.id);
    this.compare();
  }

  /** The dead appliance's half goes to the survivor or comes back; or the other one dies too. */
  #recover(): void {
    const { prng, bench } = this;
    const dead = bothHalves.filter((at) => !bench.appliances[at].isUp);
    if (dead.length === 1 && prng.chance(0.5)) {
      for (const half of bothHalves) if (bench.owner[half] === dead[0]) bench.owner[half] = other(dead[0]!);
    } else {
      for (const half of bothHalves) {
        bench.kill(half, "process");
        bench.owner[half] = half;
      }
    }
    const orphaned = bothHalves.map((half) => bench.claimsOnDisk(half).claims);
    bench.reopen();
    for (const half of bothHalves) assert.equal(bench.pool(half).groupClaims(), orphaned[half]);
    bench.settle();
    bench.checkSlabs();
  }

  #draw(): { kind: string; id: string; run: () => void; ended: () => void } {
    const { prng, bench, groups } = this;
    const roll = prng.below(100);
    const half = prng.pick(bothHalves);
    const id = groups.size > 0 ? prng.pick([...groups.keys()]) : "";
    const nothing = () => {};
    if (groups.size === 0 || (roll < 12 && groups.size < groupsMax)) {
      this.#makeRoom(half);
      const name = `${this.#names++}`.padStart(32, "0");
      const ended = () => void groups.set(name, new Array<number>(hotBlocks).fill(0));
      return { kind: "create", id: name, run: () => void bench.createGroup(half, name), ended };
    }
    const holder = bench.holderOf(id);
    if (roll < 16) {
      const run = () => bench.done((done) => bench.pool(holder).removeGroup(id, done));
      return { kind: "remove", id, run, ended: () => void groups.delete(id) };
    }
    if (roll < 40) return { kind: "move", id, run: () => bench.move(holder, id), ended: nothing };
    if (roll < 60) return { kind: "cede", id, run: () => void bench.cede(half, 1 + prng.below(4)), ended: nothing };
    // Written between deaths: what a death leaves of an apply is for the log's replay.
    this.#write(holder, id);
    return { kind: "look", id, run: () => bench.checkSlabs(), ended: nothing };
  }

  /** A half that is nearly full would refuse, rightly. */
  #makeRoom(half: Half): void {
    if (this.bench.pool(half).usage().freeBytes < 6 * mebibyte) this.bench.cede(other(half), 6);
  }

  #write(holder: Half, id: string): void {
    const { prng, bench } = this;
    this.#makeRoom(holder);
    const group = bench.openGroup(holder, id);
    if (group.volumes("head").length === 0) group.createVolume({ number: 1, sizeBytes: 4 * mebibyte });
    const first = prng.below(hotBlocks - 4);
    const tags = Array.from({ length: 1 + prng.below(4) }, () => this.#tag++);
    bench.write(group, first, tags);
    for (const [index, tag] of tags.entries()) this.groups.get(id)![first + index] = tag;
  }

  compare(): void {
    const { bench } = this;
    const there = bothHalves.flatMap((half) => bench.pool(half).groupIds());
    assert.equal([...there].sort(), [...this.groups.keys()].sort());
    for (const [id, tags] of this.groups) {
      const group = bench.openGroup(bench.holderOf(id), id);
      if (group.volumes("head").length > 0) assert.equal(bench.tags(group, 0, hotBlocks), tags, id);
    }
  }
}

test("groups and slabs between two halves, deaths at any moment -> every group whole in one half, every slab in one hand", () => {
  for (let seed = firstSeed; seed <= lastSeed; seed += 1) {
    try {
      const model = new HalvesModel(seed);
      for (let round = 0; round < 120; round += 1) model.step(0.3);
      model.compare();
      for (const id of [...model.groups.keys()]) {
        const holder = model.bench.holderOf(id);
        model.bench.done((done) => model.bench.pool(holder).removeGroup(id, done));
      }
      model.bench.settle();
      assert.is(model.bench.spaceOf("freeBytes"), model.bench.spaceOf("totalBytes"), "nothing is left");
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
});

test.run();
