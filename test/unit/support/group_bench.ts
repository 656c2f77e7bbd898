/** A group on plain hardware that can crash and come back: what the tests of log, destage and groups share. */
import * as assert from "uvu/assert";
import { Nvram } from "../../../firmware/cache/nvram.ts";
import type { MoreSpace } from "../../../firmware/log/log_room.ts";
import { cacheSlotsOf } from "../../../firmware/log/recovery.ts";
import type { BlockError, BlockRequest } from "../../../firmware/volume/block_request.ts";
import { Group } from "../../../firmware/volume/group.ts";
import { newGroupDocument } from "../../../firmware/volume/group_document.ts";
import { VolumeTarget } from "../../../firmware/volume/volume_target.ts";
import type { PersistenceDomain } from "../../../hal/api/write_cache.ts";
import { Prng } from "../../../hal/mock/prng.ts";
import { mockDigests } from "../../../hal/mock/runtime.ts";
import { ManualClock } from "./manual_clock.ts";
import { PlainCache } from "./plain_cache.ts";
import { PlainStore } from "./plain_store.ts";

const groupId = "0123456789abcdef0123456789abcdef";
const cacheBytes = 4 * 1024 * 1024;
export const volumeBytes = 1024 * 1024;
export const sectors = volumeBytes / 512;
const logSlotBytes = 262144;

export class GroupBench {
  readonly clock: ManualClock;
  readonly prng: Prng;
  cache: PlainCache;
  store: PlainStore;
  group!: Group;
  nvram!: Nvram;
  target!: VolumeTarget;
  readonly events: string[] = [];
  shelfLogBytes = 1 << 20;
  /** False: the cache was lost; nothing in it counts. */
  cacheTrusted = true;
  moreSpace: MoreSpace = (done) => done(false);

  constructor(seed: number | string, domain: PersistenceDomain, clock = new ManualClock()) {
    this.clock = clock;
    this.prng = new Prng(seed, "group");
    this.cache = new PlainCache(this.clock, cacheBytes, domain);
    this.store = new PlainStore(this.clock, newGroupDocument("demo"), { id: groupId, logSlotBytes });
  }

  start(): void {
    assert.is(this.tryStart(), null);
    let settled = false;
    this.nvram.persistAll(() => this.group.settle(() => (settled = true)));
    this.until(() => settled);
  }

  /** The cache is gone: replaced by a blank one, or its battery and then the power have failed. */
  loseCache(): void {
    this.cache = new PlainCache(this.clock, cacheBytes, this.cache.domain);
    this.cacheTrusted = false;
  }

  /** Opens the group; returns why it cannot be. */
  tryStart(): string | null {
    this.nvram = new Nvram(this.cache, this.clock, mockDigests);
    const slots = this.cacheTrusted ? cacheSlotsOf(this.nvram, mockDigests) : new Map<string, number[]>();
    this.nvram.setUsed(new Map([[groupId, slots.get(groupId) ?? []]]));
    let opened: Group | null = null;
    let trouble: string | null = null;
    let answered = false;
    const entropy = {
      fill: (bytes: Uint8Array) => {
        for (let at = 0; at < bytes.length; at++) bytes[at] = this.prng.below(256);
        return bytes;
      },
    };
    const events = { emit: (code: string, text: string) => void this.events.push(`${code}: ${text}`) };
    Group.open(
      {
        id: groupId,
        store: this.store,
        nvram: this.nvram,
        cacheTrusted: this.cacheTrusted,
        clock: this.clock,
        digests: mockDigests,
        entropy,
        events,
        shelfLogBytes: this.shelfLogBytes,
        moreSpace: (done) => this.moreSpace(done),
      },
      (error, group) => {
        trouble = error?.text ?? null;
        opened = group;
        answered = true;
      },
    );
    this.until(() => answered);
    if (opened !== null) this.group = opened;
    return trouble;
  }

  serve(): void {
    this.group.room.thaw();
    let writable = false;
    this.group.openForWriting(() => (writable = true));
    this.until(() => writable);
    this.group.setServing({ writable: true, why: null, readable: "head" });
    if (this.group.volumes().length === 0) {
      let created = false;
      const volume = { number: 1, uuid: "f".repeat(32), name: "demo-1", sizeBytes: volumeBytes };
      this.group.changeVolumes({ op: "create", volume }, () => (created = true));
      this.until(() => created);
    }
    this.openTarget();
  }

  /** A host session opens the volume (anew). */
  openTarget(): void {
    this.target = new VolumeTarget(this.group, 1, "demo-1", false);
    this.group.addTarget(this.target);
  }

  crash(): void {
    this.group.close();
    this.clock.forget();
    this.store = this.store.afterCrash(this.clock);
    this.cache = new PlainCache(this.clock, cacheBytes, this.cache.domain, this.cache.content());
  }

  until(condition: () => boolean): void {
    for (let steps = 0; !condition(); steps++) {
      assert.ok(steps < 100000, `the condition comes about; events: ${this.events.join("; ")}`);
      this.clock.step();
    }
  }

  request(kind: BlockRequest["kind"], startLba: number, blockCount: number, payload: Uint8Array | null): Tracked {
    const tracked: Tracked = {
      done: false,
      error: null,
      target: new Uint8Array(kind === "read" ? blockCount * 512 : 0),
    };
    const cut = payload === null ? 0 : this.prng.below(payload.byteLength + 1);
    const slices = payload === null ? [] : [payload.subarray(0, cut), payload.subarray(cut)];
    this.target.submit({
      kind,
      startLba,
      blockCount,
      payload: slices,
      target: tracked.target,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: (request) => {
        tracked.done = true;
        tracked.error = request.error;
      },
    });
    return tracked;
  }
}

export interface Tracked {
  done: boolean;
  error: BlockError | null;
  readonly target: Uint8Array;
}
