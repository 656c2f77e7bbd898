/** One array without peers that runs the whole firmware on one shelf, by default of three disks, with one volume `demo` that is filled and read whole. */
import * as assert from "uvu/assert";
import { startAppliance } from "../../../firmware/appliance.ts";
import type { Control } from "../../../firmware/manage/control.ts";
import type { GroupRegistry } from "../../../firmware/manage/groups.ts";
import type { BlockError } from "../../../firmware/volume/block_request.ts";
import { VolumeTarget } from "../../../firmware/volume/volume_target.ts";
import type { PersistenceDomain } from "../../../hal/api/write_cache.ts";
import type { MediumImage } from "../../../hal/mock/sparse_medium.ts";
import { World } from "../../../hal/mock/world.ts";

const MiB = 1024 * 1024;
const diskBytes = 20 * MiB;
const volumeBytes = 8 * MiB;
const stepBytes = 256 * 1024;

/** What the operator says for one start. */
export interface OperatorsWord {
  readonly acceptCacheLoss?: boolean;
  readonly acceptStaleDisk?: boolean;
}

export class ShelfBench {
  readonly world: World;
  readonly shelf;
  readonly appliance;
  readonly events: string[] = [];
  control!: Control;
  groups!: GroupRegistry;

  constructor(
    seed: number,
    slots: readonly number[] = [diskBytes, diskBytes, diskBytes],
    domain: PersistenceDomain = "battery",
  ) {
    this.world = new World({ seed });
    this.shelf = this.world.addShelf({ name: "shelf0", slots: [...slots] });
    this.appliance = this.world.addAppliance({
      name: "oak-a",
      cache: { sizeBytes: 4 * MiB + 65536, domain },
      shelves: [this.shelf],
      hbaPorts: [],
      nics: [{ name: "nic0", address: "oak-a:7400" }],
    });
  }

  /** null, or why it does not start; "died" when `dieAfterMs` came first. */
  start(word: OperatorsWord = {}, dieAfterMs = Number.POSITIVE_INFINITY): string | null {
    let answer: string | null | undefined;
    this.appliance.start((hal) => {
      const config = {
        array: { name: "oak", appliance: "oak-a" },
        peers: [],
        link: { heartbeatMs: 200, peerTimeoutMs: 1000 },
        store: { slabBytes: MiB, logSlotBytes: 262144, mapCacheBytes: MiB },
        ...word,
      };
      const events = { emit: (code: string, text: string) => void this.events.push(`${code}: ${text}`) };
      void startAppliance({ hal, config, events, version: "test" }).then((outcome) => {
        answer = outcome.ok ? null : outcome.text;
        if (!outcome.ok) return;
        this.control = outcome.control;
        this.groups = outcome.groups;
      });
    });
    if (dieAfterMs !== Number.POSITIVE_INFINITY) {
      this.world.hostClock.after(dieAfterMs, () => {
        this.appliance.crash();
        answer ??= "died";
      });
    }
    this.until(() => answer !== undefined);
    if (answer !== null && this.appliance.isUp) this.appliance.crash();
    return answer!;
  }

  until(condition: () => boolean): void {
    assert.ok(this.world.runUntil(condition, 60_000), "it comes about");
  }

  answer<T>(promise: Promise<T>): T {
    const got: T[] = [];
    void promise.then((value) => got.push(value));
    this.until(() => got.length > 0);
    return got[0]!;
  }

  #request(kind: "read" | "write", at: number, value: number): { error: BlockError | null; found: number } {
    const { group, volume } = this.groups.findVolume("demo")!;
    const target = new Uint8Array(kind === "read" ? 4096 : 0);
    const answers: (BlockError | null)[] = [];
    new VolumeTarget(group, volume.number, "demo", false).submit({
      kind,
      startLba: at / 512,
      blockCount: kind === "read" ? 8 : stepBytes / 512,
      payload: kind === "write" ? [new Uint8Array(stepBytes).fill(value)] : [],
      target,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => void answers.push(error),
    });
    this.until(() => answers.length > 0);
    return { error: answers[0]!, found: target[0]! };
  }

  create(): void {
    const { volumes } = this.control;
    assert.ok(this.answer(volumes.create({ name: "demo", sizeBytes: volumeBytes, group: null, pool: null })).ok);
  }

  /** The volume's first `bytes`, acknowledged. */
  write(value: number, bytes: number): void {
    for (let at = 0; at < bytes; at += stepBytes) assert.is(this.#request("write", at, value).error, null);
  }

  /** The whole volume, acknowledged and at home. */
  fill(value: number): void {
    this.write(value, volumeBytes);
    const { group } = this.groups.findVolume("demo")!;
    const { log } = group;
    this.until(() => log.destagedSeq === log.commitSeq && group.queue.idle);
  }

  /** Of one block in 64 KiB: what it holds, or -1 for a medium error. */
  values(): Set<number> {
    const found = new Set<number>();
    for (let at = 0; at < volumeBytes; at += 65536) {
      const read = this.#request("read", at, 0);
      if (read.error !== null) assert.is(read.error, "medium-error");
      found.add(read.error === null ? read.found : -1);
    }
    return found;
  }

  image(slot: number): MediumImage {
    return this.shelf.disk(slot).medium.image();
  }
}
