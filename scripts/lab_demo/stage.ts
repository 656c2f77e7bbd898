/** What every stage of the demo works with: a running lab, its hosts' working directory, the report. */
import { join } from "node:path";
import type { GroupJson } from "../../firmware/manage/status_json.ts";
import { statusOf } from "../lab_site/appliances.ts";
import { atOf, demoGroup, type Lab } from "../lab_site/site.ts";
import { waitUntil } from "../lab_site/wait.ts";
import { repositoryRoot } from "../tools.ts";
import { digestOf, run, why } from "./hosts.ts";
import { DemoFailed, type Report } from "./report.ts";

export const oak = "oak-a";
export const oakPartner = "oak-b";
export const elm = "elm-a";
export const volumes = ["demo-1", "demo-2"] as const;

export interface Stage {
  readonly lab: Lab;
  readonly report: Report;
  /** For images and logs of the hosts. */
  readonly workDir: string;
}

export function uriOf({ lab }: Stage, appliance: string, volume: string): string {
  const port = lab.site.appliances.find(({ name }) => name === appliance)?.nbdPorts[0];
  return `nbd://127.0.0.1:${port}/${volume}`;
}

export interface Told {
  readonly ok: boolean;
  readonly value: unknown;
  readonly code: string;
  readonly text: string;
}

/** Runs the real command line, as a person would, and shows it. */
export async function goldcopy(stage: Stage, appliance: string, words: string): Promise<Told> {
  stage.report.command(`goldcopy ${words} --at ${appliance}`);
  const main = join(repositoryRoot, "firmware", "shell", "main.ts");
  const args = [main, ...words.split(" "), "--json", "--at", atOf(stage.lab, appliance)];
  const told = await run(process.execPath, args);
  let value: unknown = null;
  try {
    value = JSON.parse(told.out);
  } catch {
    return { ok: false, value, code: "failed", text: why(told) };
  }
  const error = (value as { error?: { code: string; text: string } } | null)?.error;
  return { ok: told.code === 0, value, code: error?.code ?? "", text: error?.text ?? "" };
}

/** As `goldcopy`; without success the demo ends. */
export async function mustGoldcopy<T>(stage: Stage, appliance: string, words: string): Promise<T> {
  const told = await goldcopy(stage, appliance, words);
  if (!told.ok) throw new DemoFailed(`goldcopy ${words}: ${told.text} (${told.code})`);
  return told.value as T;
}

export async function groupAt(stage: Stage, appliance: string): Promise<GroupJson | null> {
  const status = await statusOf(stage.lab, appliance);
  return status?.groups.find((group) => group.name === demoGroup) ?? null;
}

/** Waits until both sides are at the same seq and nothing is under way; hosts must be idle. */
export async function settleInSync(stage: Stage, primary: string, golden: string, limitMs: number): Promise<GroupJson> {
  let seen = "no answer";
  const found = await waitUntil(limitMs, 25, async () => {
    const here = await groupAt(stage, primary);
    const there = await groupAt(stage, golden);
    const peer = here?.peers[0];
    if (here === null || there === null || peer === undefined) return null;
    seen = `${peer.state}, ${here.commitSeq} here, ${there.viewSeq} there`;
    return peer.state === "in-sync" && there.viewSeq >= here.commitSeq ? here : null;
  });
  if (found === null) throw new DemoFailed(`not in sync after ${limitMs / 1000} s: ${seen}`);
  return found;
}

/** Both sides as hosts read them: digests by nbdcopy, and qemu-img's own comparison. */
export async function compareSides(
  stage: Stage,
  here: string,
  there: string,
  compared: readonly string[],
): Promise<void> {
  for (const volume of compared) {
    const [ours, theirs] = await Promise.all([
      digestOf(uriOf(stage, here, volume)),
      digestOf(uriOf(stage, there, volume)),
    ]);
    stage.report.say(`${volume}  sha256 ${here} ${ours.slice(0, 32)}...  ${there} ${theirs.slice(0, 32)}...`);
    stage.report.check(ours === theirs, `${volume} on ${there} is byte-identical to ${here}`);
  }
}
