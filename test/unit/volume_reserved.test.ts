import { suite } from "uvu";
import * as assert from "uvu/assert";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import { GroupBench } from "./support/group_bench.ts";

const test = suite("volume_reserved");

const kinds = ["read", "status", "flush", "write", "zero", "unmap"] as const;
type Kind = (typeof kinds)[number];

class Bench extends GroupBench {
  /** What the reservation forbids to this host. */
  readonly forbidden = { reads: false, changes: false };

  override openTarget(): void {
    const isReserved = (changes: boolean) => (changes ? this.forbidden.changes : this.forbidden.reads);
    this.target = new VolumeTarget(this.group, 1, "demo-1", false, isReserved);
    this.group.addTarget(this.target);
  }

  outcome(kind: Kind): string {
    const tracked = this.request(kind, 0, 8, kind === "write" ? new Uint8Array(4096).fill(7) : null);
    this.until(() => tracked.done);
    return `${kind} ${tracked.error ?? "done"}`;
  }

  refused(): string[] {
    return kinds.map((kind) => this.outcome(kind)).filter((outcome) => !outcome.endsWith("done"));
  }
}

test("reserved for writing -> what changes is refused, reads go on; released -> everything is done", () => {
  const bench = new Bench(1, "battery");
  bench.start();
  bench.serve();
  bench.forbidden.changes = true;
  assert.equal(bench.refused(), ["write reserved", "zero reserved", "unmap reserved"]);
  bench.forbidden.changes = false;
  assert.equal(bench.refused(), []);
});

test("reserved for everything -> nothing is told of the data, at once or later; a flush has nothing to fear", () => {
  const bench = new Bench(2, "battery");
  bench.start();
  bench.serve();
  bench.outcome("write");
  const bytes = new Uint8Array(4096);
  assert.ok(bench.target.tryRead(0, bytes), "from the cache");
  assert.is(bytes[0], 7);
  bench.forbidden.reads = true;
  bench.forbidden.changes = true;
  assert.not.ok(bench.target.tryRead(0, bytes.fill(0)));
  assert.is(bytes[0], 0);
  assert.equal(
    bench.refused(),
    kinds.filter((kind) => kind !== "flush").map((kind) => `${kind} reserved`),
  );
});

test.run();
