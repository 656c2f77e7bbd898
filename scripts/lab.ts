/**
 * `scripts/lab`: two arrays of real appliances on this machine, for trying, testing and breaking. Words are judged here, work is
 * done in `lab_site/`. Exit codes as everywhere: 0 done, 1 refused or failed, 2 usage.
 */
import { join } from "node:path";
import { type ArgSpec, type OptionSpec, parseArgs, usageOf } from "../firmware/shell/args.ts";
import { Given } from "../firmware/shell/command.ts";
import { parseDuration, parseRate, parseShare } from "../firmware/shell/quantities.ts";
import { build } from "./build.ts";
import { runDemo } from "./lab_demo/demo.ts";
import * as lab from "./lab_site/commands.ts";
import type { LinkChange } from "./lab_site/links.ts";
import { defaultProfile, LabError } from "./lab_site/site.ts";
import { repositoryRoot } from "./tools.ts";

interface LabCommand {
  readonly verb: string;
  readonly summary: string;
  readonly args: readonly ArgSpec[];
  readonly options: readonly OptionSpec[];
  readonly run: (given: Given, dir: string) => Promise<lab.Printed> | lab.Printed;
}

const name: ArgSpec = { name: "NAME", what: "an appliance: oak-a, oak-b, elm-a" };
const sides: readonly ArgSpec[] = [
  { name: "A", what: "an appliance, or an array for all its appliances" },
  { name: "B", what: "the other side" },
];
const nic: OptionSpec = {
  name: "nic",
  kind: "text",
  value: "NIC",
  what: "only this NIC: its number (0, 1), or its name (nic0 between arrays, ic0 between partners)",
};
const oneWay: OptionSpec = { name: "one-way", kind: "flag", what: "only from A to B" };
const onOff = ["on", "off"];
/** What the appliance takes. */
const stallMsMax = 600_000;

function linkWish(given: Given, change: LinkChange["change"]): LinkChange {
  return { from: given.arg(0), to: given.arg(1), oneWay: given.has("one-way"), nic: given.text("nic"), change };
}

/** The only one that takes a command line, behind `--`. */
const execVerb = "exec";

const commands: readonly LabCommand[] = [
  {
    verb: "up",
    summary: "start everything; on a new lab make group demo and wait until elm is in-sync and a pair mirrored",
    args: [],
    options: [
      {
        name: "profile",
        kind: "text",
        value: "single|pair|FILE",
        what: `the site: single (oak-a, elm-a), pair (oak-a and oak-b on one shelf, elm-a) or a file (default ${defaultProfile})`,
      },
      { name: "mode", kind: "text", choices: ["sync", "async", "delta"], what: "of the demo group (async)" },
      { name: "persistence", kind: "text", choices: ["battery", "flush"], what: "the cache's domain (battery)" },
      {
        name: "netns",
        kind: "flag",
        what: "each appliance in a network namespace of its own; a pair has a service address that moves with the array",
      },
    ],
    run: (given, dir) =>
      lab.up({
        dir,
        profile: given.text("profile"),
        mode: given.text("mode") as lab.UpWishes["mode"],
        persistence: given.text("persistence") as lab.UpWishes["persistence"],
        network: given.has("netns") ? "netns" : null,
      }),
  },
  { verb: "status", summary: "appliances and endpoints", args: [], options: [], run: (_, dir) => lab.status(dir) },
  {
    verb: "logs",
    summary: "events and output",
    args: [name],
    options: [],
    run: (given, dir) => lab.logs(dir, given.arg(0)),
  },
  { verb: "kill", summary: "SIGKILL", args: [name], options: [], run: (given, dir) => lab.kill(dir, given.arg(0)) },
  {
    verb: "stop",
    summary: "orderly stop",
    args: [name],
    options: [],
    run: (given, dir) => lab.stop(dir, given.arg(0)),
  },
  {
    verb: "start",
    summary: "start one; done when every group's role has settled, or it is up beside its partner",
    args: [name],
    options: [],
    run: (given, dir) => lab.start(dir, given.arg(0)),
  },
  { verb: "pause", summary: "SIGSTOP", args: [name], options: [], run: (given, dir) => lab.pause(dir, given.arg(0)) },
  {
    verb: "resume",
    summary: "SIGCONT; exit 1 when it was fenced dead meanwhile",
    args: [name],
    options: [],
    run: (given, dir) => lab.resume(dir, given.arg(0)),
  },
  {
    verb: "fault",
    summary: "a hardware fault",
    args: [name, { name: "KIND", what: "battery, shelf or disk" }, { name: "on|off", what: "on or off" }],
    options: [
      {
        name: "place",
        kind: "text",
        value: "PLACE",
        what: "which shelf (shelf0) or disk (shelf0/1); default the first",
      },
    ],
    run: (given, dir) => {
      if (!["battery", "shelf", "disk"].includes(given.arg(1))) {
        throw new LabError(`KIND must be battery, shelf or disk, not "${given.arg(1)}"`, "usage", 2);
      }
      if (!onOff.includes(given.arg(2))) throw new LabError(`say on or off, not "${given.arg(2)}"`, "usage", 2);
      return lab.fault(dir, given.arg(0), given.arg(1), given.arg(2) === "on", given.text("place"));
    },
  },
  {
    verb: "stall",
    summary:
      "its main loop stands still for a while, as in a long batch; for longer than hung_ms a partner takes it for hung",
    args: [name, { name: "TIME", what: "for how long: 400ms, 3s" }],
    options: [],
    run: (given, dir) => {
      const forMs = parseDuration(given.arg(1));
      if (forMs === null || forMs < 1 || forMs > stallMsMax)
        throw new LabError(`TIME must be from 1ms to ${stallMsMax / 1000}s, not "${given.arg(1)}"`, "usage", 2);
      return lab.stall(dir, given.arg(0), Math.round(forMs));
    },
  },
  {
    verb: "cut",
    summary: "cut the network between two sides (of two partners: the interconnect); survives restarts",
    args: sides,
    options: [oneWay, nic],
    run: (given, dir) => lab.link(dir, linkWish(given, { cut: true })),
  },
  {
    verb: "join",
    summary: "undo a cut",
    args: sides,
    options: [oneWay, nic],
    run: (given, dir) => lab.link(dir, linkWish(given, { cut: false })),
  },
  {
    verb: "shape",
    summary: "shape the link in both directions; without options: plain again",
    args: sides,
    options: [
      { name: "latency", kind: "duration", value: "20ms", what: "one way" },
      { name: "jitter", kind: "duration", value: "2ms", what: "plus or minus" },
      { name: "rate", kind: "text", value: "100mbit", what: "at most" },
      { name: "loss", kind: "text", value: "0.1%", what: "share of packets" },
      oneWay,
      nic,
    ],
    run: (given, dir) => lab.link(dir, linkWish(given, shapeOf(given))),
  },
  {
    verb: execVerb,
    summary: "run a command where hosts reach the appliances, or (--in) where an appliance is; its exit code is CMD's",
    args: [],
    options: [{ name: "in", kind: "text", value: "NAME", what: "in the network of this appliance" }],
    run: () => ({ json: null, text: "" }),
  },
  {
    verb: "down",
    summary: "stop everything",
    args: [],
    options: [{ name: "wipe", kind: "flag", what: "and remove it, data included" }],
    run: (given, dir) => lab.down(dir, given.has("wipe")),
  },
  {
    verb: "demo",
    summary: "the main job with real clients: replication, crash, takeover, the way back; leaves nothing running",
    args: [],
    options: [{ name: "keep", kind: "flag", what: "leave the lab running" }],
    run: () => ({ json: null, text: "" }),
  },
];

function shapeOf(given: Given): LinkChange["change"] {
  const rateText = given.text("rate");
  const lossText = given.text("loss");
  const rateBytesPerSecond = rateText === null ? null : parseRate(rateText);
  const loss = lossText === null ? 0 : parseShare(lossText);
  if (rateText !== null && rateBytesPerSecond === null)
    throw new LabError(`--rate: not a rate like 100mbit: ${rateText}`, "usage", 2);
  if (loss === null) throw new LabError(`--loss: not a share like 0.1%: ${lossText}`, "usage", 2);
  return { latencyMs: given.number("latency") ?? 0, jitterMs: given.number("jitter") ?? 0, rateBytesPerSecond, loss };
}

const common: readonly OptionSpec[] = [
  { name: "dir", kind: "text", value: "DIR", what: "where the lab's state lies (.lab/)" },
  { name: "json", kind: "flag", what: "print JSON" },
];

function wordsOf(verb: string, args: readonly ArgSpec[], options: readonly OptionSpec[]): string {
  return `${verb} ${usageOf(args, options)}${verb === execVerb ? " -- CMD..." : ""}`.trimEnd();
}

function help(): string {
  const lines = commands.map(({ verb, args, options, summary }) => {
    const words = wordsOf(verb, args, options);
    return `  ${words}\n      ${summary}`;
  });
  return ["usage: scripts/lab COMMAND [--dir .lab/] [--json]", "", ...lines].join("\n");
}

async function main(): Promise<number> {
  const all = process.argv.slice(2);
  const end = all[0] === execVerb ? all.indexOf("--") : -1;
  const words = end < 0 ? all : all.slice(0, end);
  const json = words.includes("--json");
  const fail = (error: LabError): number => {
    if (json) console.log(JSON.stringify({ error: { code: error.code, text: error.message } }, null, 2));
    else console.error(`lab: ${error.message}`);
    return error.exitCode;
  };
  const verb = words[0];
  if (verb === undefined || words.includes("--help") || words.includes("-h") || verb === "help") {
    console.log(help());
    return verb === undefined ? 2 : 0;
  }
  const command = commands.find((candidate) => candidate.verb === verb);
  if (command === undefined) {
    const verbs = commands.map((candidate) => candidate.verb).join(", ");
    return fail(new LabError(`there is no command "${verb}" (there are ${verbs})`, "usage", 2));
  }
  const parsed = parseArgs(words.slice(1), command.args, [...command.options, ...common]);
  if (!parsed.ok) {
    const usage = `scripts/lab ${wordsOf(verb, command.args, command.options)}`;
    return fail(new LabError(`${parsed.text}; usage: ${usage}`, "usage", 2));
  }
  const given = new Given(parsed.value);
  const defaultDir = join(repositoryRoot, ".lab");
  try {
    build();
    if (verb === "demo") {
      const dir = given.text("dir");
      const demoDir = dir ?? join(defaultDir, "demo");
      return await runDemo({ dir: demoDir, ownDir: dir === null, keep: given.has("keep"), json });
    }
    if (verb === execVerb)
      return lab.exec(given.text("dir") ?? defaultDir, given.text("in"), end < 0 ? [] : all.slice(end + 1));
    const printed = await command.run(given, given.text("dir") ?? defaultDir);
    console.log(json ? JSON.stringify(printed.json, null, 2) : printed.text);
    return 0;
  } catch (error) {
    if (error instanceof LabError) return fail(error);
    return fail(new LabError(error instanceof Error ? error.message : String(error)));
  }
}

process.exitCode = await main();
