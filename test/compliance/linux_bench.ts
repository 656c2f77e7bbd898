/** The HAL on Linux and Bun under the compliance suite: real ports, files in a temporary directory. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { BatteryState } from "../../hal/api/write_cache.ts";
import type { LinuxBoard } from "../../hal/linux/board.ts";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { type LinuxHal, openLinuxHal } from "../../hal/linux/open.ts";
import { dialTcp } from "../../hal/linux/tcp_port.ts";
import { cacheBytes, diskBytes, type HalBench, type Machine, type MachineOptions } from "./bench.ts";

/** Far above anything that a loaded machine needs; only a failing test waits so long. */
const untilMsMax = 20_000;

export function makeDirectory(): string {
  return mkdtempSync(join(tmpdir(), "goldcopy-hal-"));
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const giveUpMs = performance.now() + untilMsMax;
  while (!condition()) {
    if (performance.now() > giveUpMs) throw new Error(`waited ${untilMsMax} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** `direct`: disks past the page cache. */
export function boardIn(directory: string, options: MachineOptions, direct = false): LinuxBoard {
  const { appliance } = options;
  const path = (name: string) => join(directory, `${appliance}-${name}`);
  const disk = (slot: number) => ({ slot, path: path(`disk${slot}`), sizeBytes: diskBytes, create: true });
  return {
    appliance,
    hbas: ["hba0", "hba1"].map((name) => ({ name, listen: "127.0.0.1:0", protocol: "nbd" })),
    nics: ["nic0", "nic1"].map((name) => ({ name, listen: "127.0.0.1:0" })),
    cache: { path: path("cache"), sizeBytes: cacheBytes, persistence: options.persistence },
    shelves: [{ name: "shelf0", fencing: "none", direct, disks: [disk(0), disk(1), { ...disk(2), create: false }] }],
    nicShapingFile: path("shapings.json"),
  };
}

export async function openBoard(board: LinuxBoard): Promise<LinuxHal> {
  const opened = await openLinuxHal(board);
  if ("error" in opened) throw new Error(opened.error);
  return opened;
}

class LinuxMachine implements Machine {
  readonly #board: LinuxBoard;
  #opened: LinuxHal;

  constructor(board: LinuxBoard, opened: LinuxHal) {
    this.#board = board;
    this.#opened = opened;
  }

  get hal(): Hal {
    return this.#opened.hal;
  }

  setBattery(state: BatteryState): void {
    this.#opened.setBattery(state);
  }

  failCache(): void {
    this.#opened.failCache();
  }

  setDiskFault(place: string, on: boolean): void {
    if (!this.#opened.setDiskFault(place, on)) throw new Error(`no disk ${place}`);
  }

  async restart(): Promise<void> {
    await this.close();
    this.#opened = await openBoard(this.#board);
  }

  close(): Promise<void> {
    return this.#opened.close();
  }
}

export async function newLinuxBench(direct = false): Promise<HalBench> {
  const directory = makeDirectory();
  const machines: LinuxMachine[] = [];
  const hostClock = new LinuxClock();
  return {
    async open(options) {
      const board = boardIn(directory, options, direct);
      const machine = new LinuxMachine(board, await openBoard(board));
      machines.push(machine);
      return machine;
    },
    connectHost(address: string, connected: (stream: ByteStream) => StreamHandler, failed: (reason: string) => void) {
      dialTcp(
        hostClock,
        address,
        (stream) => {
          stream.handler = connected(stream);
        },
        failed,
      );
    },
    until,
    async close() {
      for (const machine of machines) await machine.close();
      rmSync(directory, { recursive: true });
    },
  };
}
