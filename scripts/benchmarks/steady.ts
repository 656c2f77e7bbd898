/**
 * A pair under full load for a long time, with nobody doing anything to it: whoever takes its partner for dead meanwhile is wrong.
 */
import { readFileSync } from "node:fs";
import { pathIn } from "../lab_site/site.ts";
import type { Finding } from "./findings.ts";
import { type PairSite, type PathProtocol, partners } from "./pair_site.ts";
import { mixedLoad, VerifiedLoad } from "./paths/verified_load.ts";

/** Between two looks at the clock. */
const answersInPiece = 10_000;
const sayEveryMs = 60_000;

/** Events of an appliance's log. */
const wrong = {
  lost: "partner-lost",
  fenced: "partner-fenced",
  takeover: "pair-takeover",
  unmirrored: "pair-unmirrored",
};
const late = "partner-late";

type Counts = Readonly<Record<keyof typeof wrong | "late", number>>;

function countsOf(site: PairSite): Counts {
  const logs = partners.map((partner) => readFileSync(pathIn(site.lab, partner, "events.log"), "utf8"));
  const count = (code: string) => logs.reduce((sum, log) => sum + log.split(`"code":"${code}"`).length - 1, 0);
  const { lost, fenced, takeover, unmirrored } = wrong;
  return {
    lost: count(lost),
    fenced: count(fenced),
    takeover: count(takeover),
    unmirrored: count(unmirrored),
    late: count(late),
  };
}

/** The load runs for `forMs`. */
export async function steadyLoad(
  site: PairSite,
  protocol: PathProtocol,
  forMs: number,
  say: (text: string) => void,
): Promise<Finding[]> {
  await site.mirrored();
  const load = new VerifiedLoad({ ...mixedLoad, urls: await site.paths(protocol) });
  try {
    await load.start();
    const before = countsOf(site);
    const startedMs = performance.now();
    let saidMs = startedMs;
    load.mark();
    for (let nowMs = startedMs; nowMs < startedMs + forMs; nowMs = performance.now()) {
      await load.more(answersInPiece);
      if (nowMs - saidMs < sayEveryMs) continue;
      saidMs = nowMs;
      const { acknowledgedWrites, longestGapMs } = load.report();
      const minutes = Math.round((nowMs - startedMs) / 60_000);
      say(`  ${protocol}, ${minutes} min: ${acknowledgedWrites} writes, longest gap ${longestGapMs.toFixed(0)} ms`);
    }
    const tookMs = performance.now() - startedMs;
    const after = countsOf(site);
    const report = await load.finish();
    for (const text of report.told) say(`  ${protocol}: ${text}`);
    const { lostWrites, staleReads, wrongBytes } = report.violations;
    const over = (key: keyof Counts) => after[key] - before[key];
    const minutes = (tookMs / 60_000).toFixed(1);
    const about =
      `${minutes} min, ${report.acknowledgedWrites} writes acknowledged, ${report.reads} reads judged, ` +
      `longest gap ${report.longestGapMs.toFixed(0)} ms, ${report.errors} errors`;
    return [
      {
        work: `${protocol}-false-takeovers`,
        measured: over("takeover") + over("fenced"),
        unit: "",
        atMost: 0,
        note: about,
      },
      {
        work: `${protocol}-false-losses`,
        measured: over("lost") + over("unmirrored"),
        unit: "",
        atMost: 0,
        note: `a partner lost, or its copy, in ${minutes} min; its loop was later than the limit ${over("late")} times`,
      },
      {
        work: `${protocol}-steady-violations`,
        measured: lostWrites + staleReads + wrongBytes,
        unit: "",
        atMost: 0,
        note: `${lostWrites} lost writes, ${staleReads} stale reads, ${wrongBytes} wrong bytes`,
      },
    ];
  } finally {
    load.stop();
  }
}
