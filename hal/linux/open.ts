/**
 * The hardware of an appliance on Linux and Bun, as its board describes it.
 *
 * Invariant: what cannot be used is a line in `problems` or `diskProblems`, and never changed. Without its write cache there is no appliance: that
 * alone fails the opening.
 */
import { readFileSync } from "node:fs";
import type { Hal } from "../api/hal.ts";
import type { Shaping } from "../api/nic.ts";
import type { PowerPort } from "../api/power.ts";
import type { BatteryState } from "../api/write_cache.ts";
import { parseAddress } from "./address.ts";
import { type BatteryCache, openBatteryCache } from "./battery_cache.ts";
import type { LinuxBoard, PowerDescription } from "./board.ts";
import { LinuxClock } from "./clock.ts";
import { linuxDigests } from "./digests.ts";
import { Discarder } from "./discard.ts";
import { linuxEntropy } from "./entropy.ts";
import { type FlushCache, openFlushCache } from "./flush_cache.ts";
import { LinuxHbaPort } from "./hba.ts";
import { LinuxHeartbeats } from "./heartbeats.ts";
import { holderName, LifeLock } from "./life_lock.ts";
import { LinuxNic } from "./nic.ts";
import { LinuxPowerPort } from "./power.ts";
import { QmpPowerPort } from "./qmp_power.ts";
import { ReadShare } from "./read_share.ts";
import { ScsiPort } from "./scsi_port.ts";
import { LinuxServiceAddress } from "./service_address.ts";
import { readShapings, type ShapingTable, writeShapings } from "./shaping_file.ts";
import { type LinuxShelf, openShelf } from "./shelf.ts";
import { TcpListener } from "./tcp_port.ts";
import { readTlsFiles } from "./tls_files.ts";

/** The least size of the runtime's thread pool with which one slow disk does not hold up the others. */
export const threadPoolSizeMin = 16;

export interface LinuxHal {
  readonly hal: Hal;
  /** One line each: a shaping file that cannot be read or (added later) written. */
  readonly problems: readonly string[];
  /** Disks of the board that cannot be used: `PLACE: why`. */
  readonly diskProblems: readonly string[];
  /** Whether every address is free and ours, found out before anything depends on it; or which one is not, and why. */
  addressTrouble(): Promise<string | null>;
  /** One listener: connections to a NIC that are none between appliances. */
  onStranger(listener: (text: string) => void): void;
  /** Faults, for the lab. */
  setBattery(state: BatteryState): void;
  /** The cache's medium fails, for good. */
  failCache(): void;
  /** `place` as the disk names itself: `shelf0/2`. False: no such disk. */
  setDiskFault(place: string, on: boolean): boolean;
  setShelfFault(shelf: string, on: boolean): boolean;
  /** The main loop stands still for so long, when what it has to send has had time to go out. */
  stallLoop(forMs: number): void;
  /** Stops listening, waits for disk and cache I/O under way, gives files and locks back. */
  close(): Promise<void>;
}

/** The answer to whoever asked for it goes out before. */
const stallAfterMs = 20;

/** Where whoever uses a cache stores first. */
const cacheHeadBytes = 65536;

/** Rejects with nothing: a hardware that cannot be opened is `{ error }`, one line. */
export async function openLinuxHal(board: LinuxBoard): Promise<LinuxHal | { readonly error: string }> {
  const clock = new LinuxClock();
  const tls = board.tls === null || board.tls === undefined ? null : readTlsFiles(board.tls, clock.wallMs());
  if (tls !== null && "error" in tls) return tls;
  const { power } = board;
  const life =
    power?.kind === "process"
      ? await LifeLock.take(power.lockPath, holderName(power.array, power.appliance), clock)
      : null;
  if (typeof life === "string") return { error: life };
  const serviceAddresses = openServices(board, clock);
  if (typeof serviceAddresses === "string") {
    life?.release();
    return { error: serviceAddresses };
  }
  const cache =
    board.cache.persistence === "battery" ? openBatteryCache(board.cache) : openFlushCache(board.cache, clock);
  if (typeof cache === "string") {
    for (const service of serviceAddresses) service.close();
    life?.release();
    return { error: cache };
  }
  const problems: string[] = [...(tls?.warnings ?? [])];
  const diskProblems: string[] = [];
  const discarder = new Discarder();
  const scsi = new ScsiPort(clock);
  const reads = new ReadShare(poolThreads());
  // Whoever has used this cache had disks as well.
  const mayCreate = cache.memory.subarray(0, cacheHeadBytes).every((byte) => byte === 0);
  const shelves: LinuxShelf[] = [];
  for (const description of board.shelves) {
    const opened = await openShelf(description, { clock, discarder, reads, scsi, mayCreate });
    diskProblems.push(...opened.problems);
    shelves.push(opened.shelf);
  }
  const hbaPorts = board.hbas.map(
    (hba) => new LinuxHbaPort({ ...hba, movesWithOwner: isAtService(board, hba.listen) }, clock, tls),
  );
  let tellStranger: (text: string) => void = () => {};
  const nics = openNics(board, clock, problems, {
    onRefused: (text) => tellStranger(text),
    onShaped: () => heartbeats.shaped(),
  });
  const heartbeats = new LinuxHeartbeats(nics);
  const hal: Hal = {
    clock,
    entropy: linuxEntropy,
    digests: linuxDigests,
    hbaPorts,
    nics,
    heartbeats,
    serviceAddresses,
    cache,
    shelves,
    power: power === undefined ? null : powerPort(power, clock),
    witness: null,
  };
  return {
    hal,
    problems,
    diskProblems,
    addressTrouble: () => addressTrouble(board, clock),
    onStranger: (listener) => {
      tellStranger = listener;
    },
    setBattery: (state) => cache.setBattery(state),
    failCache: () => cache.fail(),
    setDiskFault: (place, on) => setDiskFault(shelves, place, on),
    setShelfFault: (name, on) => {
      const shelf = shelves.find((candidate) => candidate.name === name);
      shelf?.setFault(on);
      return shelf !== undefined;
    },
    stallLoop: (forMs) => void clock.after(stallAfterMs, () => Bun.sleepSync(forMs)),
    close: async () => {
      for (const port of [...hbaPorts, ...nics]) port.close();
      for (const service of serviceAddresses) service.close();
      heartbeats.close();
      await closeStorage(cache, shelves);
      discarder.close();
      scsi.close();
      life?.release();
    },
  };
}

function powerPort(power: PowerDescription, clock: LinuxClock): PowerPort {
  const { target } = power;
  if (power.kind === "machine") {
    const { monitor, restart } = power;
    return new QmpPowerPort({ target, monitor, restart, clock });
  }
  return new LinuxPowerPort({ array: power.array, target, lockPath: power.targetLockPath, clock });
}

/** Before anything else of the appliance is opened: what is left from its last life may be in its partner's way. */
function openServices(board: LinuxBoard, clock: LinuxClock): LinuxServiceAddress[] | string {
  const opened: LinuxServiceAddress[] = [];
  for (const service of board.services ?? []) {
    const address = LinuxServiceAddress.open(service, board.appliance, clock);
    if (typeof address !== "string") {
      opened.push(address);
      continue;
    }
    for (const other of opened) other.close();
    return address;
  }
  return opened;
}

function isAtService({ services = [] }: LinuxBoard, listen: string): boolean {
  return services.some(({ address }) => address === parseAddress(listen)?.host);
}

/** Takes each address for a moment; those that move are not there yet. */
async function addressTrouble(board: LinuxBoard, clock: LinuxClock): Promise<string | null> {
  const own = board.hbas.filter(({ listen }) => !isAtService(board, listen));
  for (const { name, listen } of [...own, ...board.nics]) {
    const probe = new TcpListener(listen, clock);
    const error = await new Promise<string | null>((resolve) => probe.listen((stream) => stream.abort(), resolve));
    probe.close();
    if (error !== null) return `${name}: ${error}; stop what uses it, or give the profile another address for ${name}`;
  }
  return null;
}

function openNics(
  board: LinuxBoard,
  clock: LinuxClock,
  problems: string[],
  { onRefused, onShaped }: { onRefused: (text: string) => void; onShaped: () => void },
): LinuxNic[] {
  const path = board.nicShapingFile;
  const read = path === null ? new Map<string, ReadonlyMap<string, Shaping>>() : readShapings(path);
  let stored: ShapingTable = new Map();
  if (typeof read === "string") problems.push(read);
  else stored = read;
  const nics: LinuxNic[] = [];
  const changed = () => {
    onShaped();
    const error = path === null ? null : writeShapings(path, new Map(nics.map((nic) => [nic.name, nic.shapings()])));
    if (error !== null) problems.push(error);
  };
  for (const { name, listen } of board.nics) {
    const shapings = stored.get(name) ?? new Map<string, Shaping>();
    nics.push(
      new LinuxNic({ appliance: board.appliance, name, listen, clock, shapings, onShaped: changed, onRefused }),
    );
  }
  return nics;
}

function setDiskFault(shelves: readonly LinuxShelf[], place: string, on: boolean): boolean {
  for (const shelf of shelves) {
    for (const disk of shelf.disks) {
      if (disk?.place !== place) continue;
      disk.setFault(on);
      return true;
    }
  }
  return false;
}

async function closeStorage(cache: BatteryCache | FlushCache, shelves: readonly LinuxShelf[]): Promise<void> {
  const closing: Promise<void>[] = [new Promise((resolve) => cache.close(resolve))];
  for (const shelf of shelves) {
    for (const disk of shelf.disks) {
      if (disk !== null) closing.push(new Promise((resolve) => disk.close(resolve)));
    }
  }
  await Promise.all(closing);
}

/** 1,024 sessions on each of two HBA ports, 256 + 64 strangers and some peers on each of two NICs, and the disks. */
const descriptorsMin = 4096;

/** What to tell the operator when the process may open too few files and sockets for the sessions it accepts; null: enough. */
export function descriptorWarning(): string | null {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  if (limit === undefined || Number(limit) >= descriptorsMin) return null;
  return `only ${limit} files and sockets may be open, too few for ${descriptorsMin}: raise the limit (ulimit -n, LimitNOFILE=)`;
}

/** Of the runtime's pool for files; as many as there are cores (two counted here) when the environment did not say so at the start. */
function poolThreads(): number {
  return Number(process.env["UV_THREADPOOL_SIZE"] ?? 0) || 2;
}

/** What to tell the operator when the runtime was started with too few threads for disk I/O; null: enough. */
export function threadPoolWarning(): string | null {
  if (poolThreads() >= threadPoolSizeMin) return null;
  return `UV_THREADPOOL_SIZE is not ${threadPoolSizeMin} or more: a slow disk will hold up the others; set it before the start`;
}
