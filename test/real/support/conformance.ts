/** Runs of libiscsi's conformance suite, and what it has to skip at our disks. */
import { run } from "./clients.ts";

const suiteLimitMs = 400_000;

export interface Verdict {
  readonly ran: number;
  readonly passed: number;
  /** `SUITE.TEST` of each that failed. */
  readonly failed: string[];
  /** `SUITE.TEST: WHY` for each that did nothing, sorted. */
  readonly skipped: string[];
  /** The end of its output, for whoever reads a failure. */
  readonly end: string;
}

/** `urls`: of the paths, `iscsi://HOST:PORT/IQN/LUN`; the first one is that of all tests that want one path. */
export async function conformance(args: readonly string[], urls: readonly string[]): Promise<Verdict> {
  const ran = await run("iscsi-test-cu", [...args, "--dataloss", "-V", ...urls], { limitMs: suiteLimitMs });
  const failed: string[] = [];
  const skipped: string[] = [];
  let [family, name] = ["", ""];
  for (const line of ran.stdout.split("\n")) {
    family = /^Suite: (\S+)/.exec(line)?.[1] ?? family;
    name = /^\s*Test: (\S+)/.exec(line)?.[1] ?? name;
    const why = /\[SKIPPED\] (.*)/.exec(line)?.[1];
    if (why !== undefined) skipped.push(`${family}.${name}: ${why}`);
    if (/(?:^|\.\.\.)FAILED/.test(line)) failed.push(`${family}.${name}`);
  }
  const [, count, passed] = /\n\s+tests\s+\d+\s+(\d+)\s+(\d+)/.exec(ran.stdout) ?? [];
  return { ran: Number(count), passed: Number(passed), failed, skipped: skipped.sort(), end: ran.stdout.slice(-3000) };
}

/**
 * One test of the suite fails by its own mistake. `GetLBAStatus.UnmapSingle` unmaps blocks 0 to 7, asks from LBA 9 on, and wants
 * the first descriptor to begin at 16. A descriptor list begins at the LBA that was asked for (SBC-4 5.6), as at QEMU's disks.
 */
export const mistaken = ["GetLBAStatus.UnmapSingle"];

/** Of the suite. */
export const testCount = 230;

const each = (family: string, names: readonly string[], why: string) =>
  names.map((name) => `${family}.${name}: ${why}`);
const noRemovable = "Logical unit is not removable. Skipping test.";
const noErase = "SANITIZE CRYPTO_ERASE is not implemented according to REPORT_SUPPORTED_OPCODES.";
const preventAllow = ["2ITNexuses", "ColdReset", "Eject", "ITNexusLoss", "LUNReset", "Logout", "Simple", "WarmReset"];
const paths = ["CompareAndWrite", "CompareAndWriteAsync", "Reset", "Simple"];

/** What a disk that does not come out, is not encrypted, may be written and is seen by one path has nothing to say to. */
export const skippedOfOnePath = [
  ...each("MultipathIO", paths, "Multipath unavailable. Skipping test"),
  "NoMedia.NoMediaSBC: LUN is not removable. Skipping test.",
  ...each("PreventAllow", preventAllow, noRemovable),
  "ReadOnly.ReadOnlySBC: Logical unit is not write-protected. Skipping test.",
  ...each("Sanitize", ["CryptoErase", "Readonly", "Reservations"], noErase),
  ...each("StartStopUnit", ["NoLoej", "PwrCnd"], "LUN is not removable. Skipping test."),
  "StartStopUnit.Simple: Media is not removable.",
];
