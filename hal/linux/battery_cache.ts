/**
 * The write cache of domain `battery`: a shared mapping of a file. Every store survives the death of the process at once, so
 * there is nothing to do at a persist point. Power loss is survived only where the file lies on real non-volatile memory
 * mapped directly (ext4 with `-o dax` on a pmem device, whose own battery or ADR covers the CPU's caches): on any other file
 * the domain promises survival of process death alone.
 */
import { closeSync } from "node:fs";
import type { BatteryState, PersistenceDomain, WriteCache } from "../api/write_cache.ts";
import { Battery } from "./battery.ts";
import type { CacheDescription } from "./board.ts";
import { openCacheFile } from "./cache_file.ts";
import { liesInMemory, populate } from "./libc.ts";

export class BatteryCache implements WriteCache {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain = "battery";
  readonly memory: Uint8Array;
  readonly #fd: number;
  readonly #battery = new Battery();
  #fault = false;

  constructor(fd: number, memory: Uint8Array) {
    this.#fd = fd;
    this.memory = memory;
    this.sizeBytes = memory.byteLength;
  }

  battery(): BatteryState {
    return this.#battery.state();
  }

  onBattery(listener: (state: BatteryState) => void): void {
    this.#battery.onChange(listener);
  }

  setBattery(state: BatteryState): void {
    this.#battery.set(state);
  }

  /** For the lab: every persist from now on fails. Not undone: a cache that has failed stays failed. */
  fail(): void {
    this.#fault = true;
  }

  wrote(_offsetBytes: number, _lengthBytes: number): void {}

  persist(done: (outcome: "persisted" | "failed") => void): void {
    done(this.#fault ? "failed" : "persisted");
  }

  /** Gives the lock back. The mapping itself stays until the runtime collects it. */
  close(done: () => void): void {
    closeSync(this.#fd);
    done();
  }
}

export function openBatteryCache(description: CacheDescription): BatteryCache | string {
  const { path, sizeBytes } = description;
  const file = openCacheFile(path, sizeBytes, false);
  if (typeof file === "string") return file;
  const memory = Bun.mmap(path, { shared: true });
  if (memory.byteLength !== sizeBytes) {
    closeSync(file.fd);
    return `cache ${path}: mapped ${memory.byteLength} bytes instead of ${sizeBytes}`;
  }
  // Faults for writing dirty every page, which only costs nothing in memory.
  populate(memory, liesInMemory(file.fd));
  return new BatteryCache(file.fd, memory);
}
