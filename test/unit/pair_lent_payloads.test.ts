/** What a host has written through the standby lies in its chunks until the partner has it, or nobody will send it any more. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NbdClient } from "../sim/nbd_client.ts";
import { PairBench } from "./support/pair_bench.ts";

const test = suite("pair_lent_payloads");
const mebibyte = 1048576;
const writeBytes = 64 * 1024;
const writesMax = 128;

/** Writes every millisecond through one appliance, answered or not, each place its own content. */
class LargeHost {
  readonly #bench: PairBench;
  readonly #path: string;
  readonly #volume: string;
  #client: NbdClient | null = null;
  #cookie = 1;
  #isRunning = true;
  #next = 0;
  /** Where it begins to write, of two halves of the places. */
  from = 0;
  readonly #underWay = new Set<number>();
  #read: ((data: Uint8Array) => void) | null = null;
  acks = 0;

  constructor(bench: PairBench, volume: string, path: string) {
    this.#bench = bench;
    this.#volume = volume;
    this.#path = path;
    this.#connect();
  }

  #connect(): void {
    const { world } = this.#bench;
    const again = () => {
      this.#client = null;
      this.#underWay.clear();
      world.hostClock.after(20, () => this.#connect());
    };
    world.connectHost(
      this.#path,
      (stream) => {
        const client = new NbdClient(stream, this.#volume, true, {
          ready: () => {
            this.#client = client;
            this.#issue();
          },
          reply: (cookie, errno, data) => this.#answered(cookie, errno, data),
          closed: again,
          broken: (what) => {
            throw new Error(what);
          },
        });
        return client;
      },
      again,
    );
  }

  #issue(): void {
    if (this.#client === null || !this.#isRunning) return;
    this.#bench.world.hostClock.after(1, () => this.#issue());
    if (this.#underWay.size >= writesMax) return;
    const place = this.from + (this.#next++ % 32);
    this.#underWay.add(this.#cookie);
    const data = new Uint8Array(writeBytes).fill(place + 1);
    this.#client.send("write", this.#cookie++, place * writeBytes, writeBytes, data);
  }

  #answered(cookie: number, errno: number, data: Uint8Array | null): void {
    if (!this.#underWay.delete(cookie)) return this.#read?.(data!);
    if (errno === 0) this.acks++;
  }

  untilWrites(count: number): void {
    const before = this.acks;
    this.#bench.until("large writes", () => this.acks > before + count);
  }

  /** Every place has been written again and again with one content. */
  verify(): string | null {
    this.#isRunning = false;
    this.#bench.until("its writes are answered", () => this.#client !== null && this.#underWay.size === 0);
    for (let place = 0; place < 64; place++) {
      let found: Uint8Array | null = null;
      this.#read = (data) => {
        found = data;
      };
      this.#client!.send("read", this.#cookie++, place * writeBytes, writeBytes, null);
      this.#bench.until("an answer to a read", () => found !== null);
      if (found!.some((byte: number) => byte !== place + 1)) return `place ${place} holds something else`;
    }
    return null;
  }
}

test("large writes through the standby are under way while it gets the half, and a NIC breaks before the partner has them -> what goes once more is what it was", () => {
  const bench = new PairBench(460);
  bench.startBoth();
  bench.untilHalves("a", "b");
  bench.addVolume("v1", 64 * mebibyte);
  for (const nic of ["ic0", "ic1"]) bench.world.shape("oak-b", "oak-a", { latencyMs: 10 }, nic);
  const host = new LargeHost(bench, "v1", bench.b.address);
  host.untilWrites(200);
  const [first] = bench.b.appliance!.halves;
  let isOver = false;
  void bench.a.appliance!.halves[0]!.failover(null).then(() => {
    isOver = true;
  });
  bench.until("it is about to be handed over", () => first!.theirGroups === null);
  bench.world.shape("oak-b", "oak-a", { cut: true }, "ic0");
  bench.world.shape("oak-a", "oak-b", { cut: true }, "ic0");
  bench.until("the other NIC goes on", () => bench.b.saw("interconnect-nic-down"));
  bench.until("the hand-over is over", () => isOver);
  host.untilWrites(200);
  host.from = 32;
  host.untilWrites(200);
  bench.untilAllMirrored();
  const back = bench.answer(first!.failover(null));
  assert.ok(back.ok, JSON.stringify(back));
  host.untilWrites(200);
  assert.is(host.verify(), null);
  for (const machine of bench.machines) assert.not(machine.saw("partner-lost"), bench.describe());
  for (const machine of bench.machines) assert.not(machine.saw("pair-language"), bench.describe());
});

test.run();
