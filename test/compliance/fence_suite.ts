/** hal/api/shelf.ts, `DiskFence`: two appliances on one disk. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Disk, DiskError, DiskFence } from "../../hal/api/shelf.ts";
import { outcomeOf, pattern } from "./bench.ts";

export type FencedDisk = Disk & { readonly fence: DiskFence };
export type FencedAppliance = "oak-a" | "oak-b";

/** A disk of 1 MiB or more that nobody is registered with. */
export interface FenceBench {
  /** The appliance's process starts, again if it has been started before: the life before has ended then, however it did. */
  boot(appliance: FencedAppliance): Promise<FencedDisk>;
  /** The appliance's way to the disk. */
  setDiskFault(appliance: FencedAppliance, on: boolean): void;
  until(what: string, condition: () => boolean): Promise<void>;
  close(): Promise<void>;
}

type Outcome = DiskError["code"] | "good";

const block = 4096;
const writesUnderWay = 64;

export function fenceSuite(name: string, newBench: () => Promise<FenceBench>): void {
  const test = suite(`${name}: fence of a disk`);
  let bench: FenceBench;
  let keys = 0;
  test.before.each(async () => {
    bench = await newBench();
  });
  test.after.each(async () => {
    await bench.close();
  });

  const outcome = async (what: string, start: (done: (error: DiskError | null) => void) => void): Promise<Outcome> => {
    let isInCall = true;
    const error = await outcomeOf<DiskError | null>(bench, what, (done) => {
      start((result) => {
        assert.not(isInCall, `${what}: done from inside the call`);
        done(result);
      });
      isInCall = false;
    });
    if (error !== null) assert.match(error.text, /^shelf0\/0: /);
    return error?.code ?? "good";
  };
  const register = (on: FencedDisk) =>
    outcome("register", (done) => on.fence.register(pattern(8, ++keys).fill(0x5a, 0, 1), done));
  const look = (on: FencedDisk) => outcome("look", (done) => on.fence.look(done));
  const evictOthers = (on: FencedDisk) => outcome("evict", (done) => on.fence.evictOthers(done));
  const write = (on: Disk, byte: number) =>
    outcome("write", (done) => on.write(0, [new Uint8Array(block).fill(byte)], done));
  const flush = (on: Disk) => outcome("flush", (done) => on.flush(done));
  const discard = (on: Disk) => outcome("discard", (done) => on.discard(0, block, done));
  const readOf = async (on: Disk, lengthBytes = block): Promise<Uint8Array> => {
    const target = new Uint8Array(lengthBytes).fill(0xee);
    assert.is(await outcome("read", (done) => on.read(0, target, done)), "good");
    return target;
  };
  const found = async (on: Disk): Promise<number> => {
    const bytes = await readOf(on);
    assert.ok(bytes.every((byte) => byte === bytes[0]));
    return bytes[0]!;
  };
  const bootBoth = async (): Promise<{ onA: FencedDisk; onB: FencedDisk }> => {
    const onA = await bench.boot("oak-a");
    const onB = await bench.boot("oak-b");
    assert.is(await register(onA), "good");
    assert.is(await register(onB), "good");
    return { onA, onB };
  };

  test("nobody is registered -> all may write; somebody is -> only those registered, and all may read", async () => {
    const onA = await bench.boot("oak-a");
    const onB = await bench.boot("oak-b");
    assert.is(await write(onB, 1), "good");
    assert.is(await register(onA), "good");
    assert.is(await write(onB, 2), "evicted");
    assert.is(await found(onB), 1);
    assert.is(await register(onB), "good");
    assert.is(await write(onB, 3), "good");
    assert.is(await flush(onB), "good");
    assert.is(await found(onA), 3);
    assert.is(await write(onA, 4), "good");
    assert.is(await found(onB), 4);
  });

  test("who has not registered -> is told so, and evicts nobody", async () => {
    const { onA, onB } = await bootBoth();
    const again = await bench.boot("oak-a");
    assert.is(await look(again), "evicted");
    assert.is(await evictOthers(again), "evicted");
    assert.is(await look(onB), "good");
    assert.is.not(onA, again);
  });

  test("an eviction -> the other one changes nothing and evicts nobody from then on, learns it, and may read", async () => {
    const { onA, onB } = await bootBoth();
    assert.is(await look(onA), "good");
    assert.is(await write(onB, 1), "good");
    assert.is(await evictOthers(onB), "good");
    assert.is(await look(onA), "evicted");
    assert.is(await write(onA, 2), "evicted");
    assert.is(await discard(onA), "evicted");
    assert.ok(["evicted", "good"].includes(await flush(onA)));
    assert.is(await evictOthers(onA), "evicted");
    assert.is(await found(onA), 1);
    assert.is(await look(onB), "good");
    assert.is(await write(onB, 3), "good");
    assert.is(await found(onA), 3);
    assert.is(await evictOthers(onB), "good", "nobody is left to evict");
  });

  test("the evicted one starts again -> evicted until it registers, then it writes beside the other one", async () => {
    const { onB } = await bootBoth();
    assert.is(await evictOthers(onB), "good");
    const again = await bench.boot("oak-a");
    assert.is(await write(again, 1), "evicted");
    assert.is(await register(again), "good");
    assert.is(await look(again), "good");
    assert.is(await write(again, 2), "good");
    assert.is(await look(onB), "good");
    assert.is(await write(onB, 3), "good");
    assert.is(await evictOthers(again), "good");
    assert.is(await look(onB), "evicted");
    assert.is(await write(onB, 4), "evicted");
    assert.is(await found(again), 3);
  });

  test("both start again without an eviction -> the registrations of their lives before keep strangers out, and are replaced", async () => {
    await bootBoth();
    const onA = await bench.boot("oak-a");
    const onB = await bench.boot("oak-b");
    assert.is(await register(onA), "good");
    assert.is(await register(onB), "good");
    assert.is(await evictOthers(onA), "good");
    assert.is(await look(onB), "evicted");
    assert.is(await write(onB, 1), "evicted");
  });

  test("writes are under way when their writer is evicted -> each has landed by then, or never does and says so", async () => {
    const { onA, onB } = await bootBoth();
    const lengthBytes = writesUnderWay * block;
    const zeros = [new Uint8Array(lengthBytes)];
    assert.is(await outcome("clear", (done) => onB.write(0, zeros, done)), "good");
    const outcomes: (Outcome | null)[] = new Array<Outcome | null>(writesUnderWay).fill(null);
    for (let at = 0; at < writesUnderWay; at++) {
      onA.write(at * block, [new Uint8Array(block).fill(at + 1)], (error) => {
        outcomes[at] = error?.code ?? "good";
      });
    }
    assert.is(await evictOthers(onB), "good");
    const then = await readOf(onB, lengthBytes);
    await bench.until("all writes", () => outcomes.every((one) => one !== null));
    const later = await readOf(onB, lengthBytes);
    assert.equal(later, then, "nothing lands after the eviction");
    for (const [at, one] of outcomes.entries()) {
      const isThere = then[at * block] === at + 1;
      if (one === "good") assert.ok(isThere, `write ${at} was acknowledged`);
      else assert.is(one, "evicted");
    }
    assert.is(await write(onA, 0xff), "evicted");
  });

  test("the way to the disk is cut -> the fence answers nothing but absent; joined again -> as before", async () => {
    const { onA, onB } = await bootBoth();
    bench.setDiskFault("oak-a", true);
    assert.is(await look(onA), "absent");
    assert.is(await evictOthers(onA), "absent");
    bench.setDiskFault("oak-a", false);
    assert.is(await look(onA), "good");
    assert.is(await look(onB), "good");
  });

  test.run();
}
