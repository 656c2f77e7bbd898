/** Moves that are settled by the claims (`group_mover.ts`), with a store and an other half that the test plays. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import { Tenure } from "../../firmware/manage/tenure.ts";
import { GroupMover } from "../../firmware/pair/group_mover.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import type { Engine } from "../../firmware/pair/partnership_options.ts";
import type { GroupClaim } from "../../firmware/store/store.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("pair_group_mover");
const id = "aa".repeat(16);
const ok = (value: unknown) => ({ ok: true, value }) as const;

/** A mover of a half with one group, and what it does, in order. */
class MoverBench {
  readonly world = new World({ seed: 1 });
  readonly done: string[] = [];
  claims: GroupClaim[] = [{ id, claim: 0, leaving: false }];
  /** What the other half says in turn; the last one again and again. */
  readonly theirs: (readonly GroupClaim[])[] = [[]];
  openClosed: () => Promise<void> = async () => {};
  adopt: () => Promise<ApiAnswer> = async () => ({ status: 200, body: null });
  readonly mover: GroupMover;

  constructor() {
    const { clock } = this.world
      .addAppliance({
        name: "oak-a",
        cache: { sizeBytes: 65536, domain: "battery" },
        shelves: [],
        hbaPorts: [],
        nics: [],
      })
      .boot();
    const engine = { transfers: this.#transfers(), groups: { find: () => null } } as unknown as Engine;
    this.mover = new GroupMover({
      clock,
      events: { emit: () => {} },
      half: 0,
      engine: () => engine,
      tenure: new Tenure(),
      askOther: (path) => this.#answer(path),
      hold: async (uuids, isHeld) => {
        this.done.push(`${isHeld ? "hold" : "release"} ${uuids.join()}`);
      },
    });
  }

  #transfers() {
    return {
      openClosed: () => this.openClosed(),
      claims: () => this.claims,
      prepare: async () => ok(["volume"]),
      begin: async () => {
        this.claims = [{ id, claim: 1, leaving: true }];
        return ok({ id, transfer: { volumes: ["one"] } });
      },
      end: async () => {
        this.done.push("end");
        this.claims = [];
        return ok(null);
      },
      cancel: async () => {
        this.done.push("cancel");
        this.claims = [{ id, claim: 3, leaving: false }];
        return ok(null);
      },
    };
  }

  async #answer(path: string): Promise<ApiAnswer> {
    this.done.push(path);
    if (path === "/half/adopt") return this.adopt();
    if (path !== "/half/claims") return { status: 200, body: null };
    const groups = this.theirs.length > 1 ? this.theirs.shift() : this.theirs[0];
    return { status: 200, body: { groups, slabs: "", freeBytes: 0, slabBytes: 1 } };
  }

  /** Every wait of a move but that for its limits comes to an end. */
  async getOn(): Promise<void> {
    for (let wait = 0; wait < 4; wait++) {
      for (let step = 0; step < 50; step++) await Promise.resolve();
      this.world.runFor(pairLimits.breathMs);
    }
  }
}

test("a move begins while moves are being settled, and a closed group is slow to open -> it is not taken for one that broke", async () => {
  const bench = new MoverBench();
  let opened = () => {};
  bench.openClosed = () =>
    new Promise((resolve) => {
      opened = resolve;
    });
  let adopted = (_: ApiAnswer) => {};
  bench.adopt = () =>
    new Promise((resolve) => {
      adopted = resolve;
    });
  const settling = bench.mover.settle();
  const moving = bench.mover.move("one", 1000);
  await bench.getOn();
  assert.ok(bench.done.includes("/half/adopt"));
  opened();
  await settling;
  assert.not.ok(bench.done.includes("cancel"), bench.done.join());
  adopted({ status: 200, body: null });
  assert.ok((await moving).ok);
  assert.equal(bench.done.slice(-2), ["end", "release volume"]);
});

test("a group that was on its way is not the other half's -> taken back upon its word, with nothing between", async () => {
  const bench = new MoverBench();
  bench.claims = [{ id, claim: 1, leaving: true }];
  await bench.mover.settle();
  assert.equal(bench.done.slice(-3), ["/half/claims", "cancel", "release "]);
  assert.ok(bench.done.includes("/half/forget"));
});

test("another owner of the other half reads there that it has the group, just before it is taken back -> it is its", async () => {
  const bench = new MoverBench();
  bench.claims = [{ id, claim: 1, leaving: true }];
  bench.theirs.push([{ id, claim: 2, leaving: false }]);
  await bench.mover.settle();
  assert.ok(bench.done.includes("end") && !bench.done.includes("cancel"), bench.done.join());
});

test("the other half's owner does not take a group -> its claims decide, within the move", async () => {
  const bench = new MoverBench();
  bench.adopt = async () => ({ status: 503, body: { error: { text: "no room" } } });
  const moving = bench.mover.move("one", 1000);
  await bench.getOn();
  const moved = await moving;
  assert.match(moved.ok ? "" : moved.error.text, /has not taken group one, .*: no room/);
  assert.equal(bench.done.slice(-2), ["cancel", "release volume"]);
});

test.run();
