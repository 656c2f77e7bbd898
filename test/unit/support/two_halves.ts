/** A pair with a group in each half of its array, and hosts with iSCSI sessions. */
import * as assert from "uvu/assert";
import type { StatusJson } from "../../../firmware/manage/status_json.ts";
import { PairBench, type PairBenchOptions } from "./pair_bench.ts";
import type { PairInitiator } from "./pair_initiator.ts";
import { cdb } from "./scsi_bench.ts";

export const mebibyte = 1048576;
export const blocks = 8;

export function filled(seed: number): Uint8Array {
  return Uint8Array.from({ length: 4096 }, (_, index) => (index * 13 + seed) & 0xff);
}

/** One group with a volume in each half; `one` is LUN 0, and `two` LUN 1. */
export function twoHalves(seed: number, options: PairBenchOptions = {}): PairBench {
  const bench = new PairBench(seed, options);
  bench.startBoth();
  bench.untilHalves("a", "b");
  bench.call(bench.a, "POST", "/v1/hosts", { name: "any", any: true });
  for (const name of ["one", "two"]) {
    bench.call(bench.a, "POST", "/v1/volumes", { name, sizeBytes: 64 * mebibyte });
    bench.call(bench.b, "POST", "/v1/hosts/any/map", { volume: name });
  }
  return bench;
}

export function owners(bench: PairBench): Record<string, string> {
  const { groups } = bench.call<StatusJson>(bench.a.machine.isUp ? bench.a : bench.b, "GET", "/v1/status");
  return Object.fromEntries(groups.map(({ name, owner }) => [name, owner]));
}

/** REPORT LUNS, asked of LUN `at`. */
export function luns(initiator: PairInitiator, at = 0): number[] {
  const list = initiator.read([0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256, at)!;
  const count = new DataView(list.buffer).getUint32(0) / 8;
  return Array.from({ length: count }, (_, index) => list[9 + 8 * index]!);
}

export function write(initiator: PairInitiator, lun: number, data: Uint8Array): void {
  for (let tries = 0; tries < 6; tries++) {
    const { status, sense } = initiator.run(cdb.write10(0, blocks), data, lun);
    if (status === 0) return;
    assert.ok([0x062a06, 0x062a01, 0x0b0000, 0x062900, 0x063f0e].includes(sense), sense.toString(16));
  }
  throw new Error("not written");
}

export function read(initiator: PairInitiator, lun: number): Uint8Array {
  const told: string[] = [];
  for (let tries = 0; tries < 6; tries++) {
    const command = initiator.begin(cdb.read10(0, blocks), { readBytes: 4096, lun });
    const { status, sense } = initiator.end(command);
    if (status === 0) return command.received;
    // The group has just come, and finds out its role.
    if (sense === 0x020401) initiator.rest();
    told.push(`${status} ${sense.toString(16)}`);
  }
  throw new Error(`not read: ${told.join(", ")}`);
}

export function assertReads(initiator: PairInitiator, lun: number, data: Uint8Array): void {
  assert.is(Buffer.compare(read(initiator, lun), data), 0, `LUN ${lun}`);
}
