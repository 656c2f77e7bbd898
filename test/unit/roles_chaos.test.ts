/** Random writes, cuts, deaths and role commands on two arrays; the promises are checked at every step and after healing. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Prng } from "../../hal/mock/prng.ts";
import { Lab, type Site, type Written } from "./support/replication_site.ts";

const test = suite("roles_chaos");

interface Attempt {
  readonly block: number;
  readonly value: number;
  readonly written: Written;
}

class Chaos {
  readonly lab: Lab;
  readonly prng: Prng;
  readonly sites: Site[];
  readonly attempts: Attempt[] = [];
  /** The operator did something after which two writable sides, and loss, are allowed. */
  exception = false;
  #stamp = 0;

  constructor(seed: number, takeovers: boolean) {
    this.prng = new Prng(seed, "chaos");
    this.lab = Lab.pair(seed, this.prng.chance(0.5) ? "sync" : "async");
    this.sites = [this.lab.site("oak"), this.lab.site("elm")];
    const rounds = 30;
    for (let round = 0; round < rounds; round++) this.#round(takeovers);
  }

  get writable(): Site[] {
    return this.sites.filter((site) => site.replication?.status().writable === true);
  }

  #round(takeovers: boolean): void {
    const { lab, prng } = this;
    const site = this.sites[prng.below(2)]!;
    const dice = prng.below(100);
    if (dice < 50) this.#write(1 + prng.below(30));
    else if (dice < 60) lab.world.cut("oak-a", "elm-a", prng.chance(0.3));
    else if (dice < 72) lab.join("oak", "elm");
    else if (dice < 82) {
      if (site.replication === null) site.start();
      else site.crash();
    } else if (dice < 92) {
      const primary = this.writable[0];
      const other = this.sites.find((one) => one !== primary)!;
      if (primary !== undefined) void primary.commands.migrate(other.name, 200 + prng.below(2000));
    } else if (dice < 94) {
      site.machine.pause();
      lab.world.runFor(prng.below(3000));
      site.machine.resume();
    } else if (dice < 95) {
      const primary = this.writable[0];
      const other = this.sites.find((one) => one !== primary)!;
      if (primary !== undefined) void primary.commands.setMode(other.name, prng.chance(0.5) ? "sync" : "async");
    } else if (takeovers && site.replication !== null) {
      this.exception = true;
      if (site.status.role === "golden")
        void site.commands.takeover({ force: prng.chance(0.2), fork: false, timeoutMs: 5000 });
      else void site.commands.serveAlone(5000);
    }
    const steps = prng.below(400);
    for (let step = 0; step < steps; step++) {
      lab.world.step();
      if (!this.exception) assert.ok(this.writable.length <= 1, "L1: never two writable sides");
    }
    if (prng.chance(0.3)) lab.world.runFor(prng.below(2500));
  }

  #write(count: number): void {
    const primary = this.writable[this.prng.below(Math.max(1, this.writable.length))];
    if (primary === undefined || primary.group!.volumes().length === 0) return;
    for (let write = 0; write < count; write++) {
      const block = this.prng.below(64);
      const value = 1 + (this.#stamp++ % 255);
      this.attempts.push({ block, value, written: primary.submit(block, value) });
    }
  }

  /** Everything is repaired, and an operator does what the sides ask for. */
  heal(): Site {
    const { lab } = this;
    lab.join("oak", "elm");
    for (const site of this.sites) if (site.replication === null) site.start();
    lab.world.runFor(4000);
    for (let turn = 0; turn < 6; turn++) {
      const both = this.sites.filter((site) => site.status.role === "primary");
      if (both.length === 1 && both[0]!.status.writable) break;
      assert.ok(
        this.exception || both.length === 1,
        `without an operator's exception one is primary\n${this.sites.map((site) => site.describe()).join("\n")}`,
      );
      if (both.length === 0)
        lab.done("take over", this.sites[0]!.commands.takeover({ force: true, fork: false, timeoutMs: 5000 }));
      if (both.length === 1 && !both[0]!.status.writable)
        lab.result("serve", both[0]!.commands.serveAlone(5000), 60_000);
      if (both.length === 2) {
        const keeper = both.find((site) => site.status.writable) ?? both[0]!;
        const giver = both.find((site) => site !== keeper)!;
        if (!keeper.status.writable) lab.result("serve", keeper.commands.serveAlone(5000), 60_000);
        lab.world.runFor(2500);
        lab.result("resync", giver.commands.resync(keeper.name, 60_000), 90_000);
      }
      lab.world.runFor(3000);
    }
    const primary = this.writable[0];
    assert.ok(primary, this.sites.map((site) => site.describe()).join("\n"));
    return primary!;
  }

  check(): void {
    const { lab } = this;
    const primary = this.heal();
    const golden = this.sites.find((site) => site !== primary)!;
    lab.until(
      "in sync",
      () => golden.status.role === "golden" && primary.peer(golden.name).state === "in-sync",
      60_000,
    );
    lab.until("seen", () => golden.log.commitSeq === primary.log.commitSeq);
    const image = primary.image();
    assert.equal(golden.image(), image);
    if (this.exception) return;
    // Without an exception every acknowledged write is there, or a later one on its block.
    for (let index = 0; index < this.attempts.length; index++) {
      const { block, value, written } = this.attempts[index]!;
      if (!written.done || written.error !== null) continue;
      const later = this.attempts.slice(index).filter((attempt) => attempt.block === block);
      assert.ok(
        later.some((attempt) => attempt.value === image[block]),
        `block ${block}: ${value} was acknowledged, ${image[block]} is there`,
      );
    }
  }
}

for (const takeovers of [false, true]) {
  const seeds = Array.from(
    { length: Number(process.env["CHAOS_SEEDS"] ?? 6) },
    (_, index) => Number(process.env["CHAOS_FROM"] ?? 1) + index,
  );
  for (const seed of seeds) {
    const what = takeovers ? "takeovers and serving alone" : "migrations";
    test(`seed ${seed}: writes, cuts, deaths, ${what} -> one primary, equal copies, nothing acknowledged is lost`, () => {
      new Chaos(seed + (takeovers ? 1000 : 0), takeovers).check();
    });
  }
}

test.run();
