/** `status`, `log`, `support`: what is going on, what happened, and everything for those who help. */
import type { EventJson } from "../manage/events.ts";
import type { StatusJson } from "../manage/status_json.ts";
import type { Command, Context, Given, Outcome } from "./command.ts";
import { answered } from "./command.ts";
import { printable, tone } from "./screen.ts";
import { statusView } from "./status_view.ts";

const clearScreen = "\u001b[H\u001b[2J";
/** The appliance answers `[]` after this and is asked again; inside its own limit of 60 s. */
const followWaitMs = 30_000;

export const statusCommands: readonly Command[] = [
  {
    noun: "status",
    verb: null,
    summary: "one screen: appliances, groups, peers, lag, warnings",
    details: "The LAG column is what the peer has not received yet: seqs, bytes, and the age of the oldest of them.",
    args: [],
    options: [{ name: "watch", kind: "flag", what: "again every second, until interrupted" }],
    run: (context, call) => (call.has("watch") ? watch(context) : showStatus(context)),
  },
  {
    noun: "log",
    verb: null,
    summary: "events, newest last",
    details: 'Every event has a code that keeps its meaning, for scripts: goldcopy log --json | grep \'"code":"..."\'.',
    args: [],
    options: [
      { name: "follow", kind: "flag", what: "go on with new events, until interrupted" },
      { name: "lines", kind: "integer", value: "N", what: "only the newest N (default: what the appliance remembers)" },
    ],
    run: showLog,
  },
  {
    noun: "support",
    verb: "bundle",
    summary: "everything that helps to understand this appliance from afar, in one file",
    details: "Status, configuration and events as JSON. No data of hosts and no secrets.",
    args: [],
    options: [{ name: "out", kind: "text", value: "FILE", what: "where to write it (default: standard output)" }],
    run: bundle,
  },
];

function showStatus(context: Context): Promise<Outcome> {
  return answered(context.ask<StatusJson>("GET", "/v1/status"), (status) => statusView(context.style, status));
}

async function watch(context: Context): Promise<Outcome> {
  for (;;) {
    const outcome = await showStatus(context);
    if (outcome.kind === "done") {
      if (context.json) context.emit(JSON.stringify(outcome.json));
      else context.emit(`${context.isTerminal ? clearScreen : ""}${outcome.text}\n`);
    } else if (outcome.kind === "refused") {
      // A restart of the appliance is worth watching too.
      if (!context.isTerminal || outcome.code !== "unreachable") return outcome;
      context.emit(`${clearScreen}${outcome.text}\n`);
    }
    await context.sleep(1000);
  }
}

async function showLog(context: Context, call: Given): Promise<Outcome> {
  const lines = call.number("lines");
  const limit = lines === null ? "" : `&limit=${lines}`;
  const answer = await context.ask<EventJson[]>("GET", `/v1/events?after=0${limit}`);
  if (!answer.ok) return { kind: "refused", code: answer.code, text: answer.text };
  if (!call.has("follow")) {
    return {
      kind: "done",
      json: answer.value,
      text: answer.value.map((event) => eventLine(context, event)).join("\n"),
    };
  }
  let newest = 0;
  let batch = answer.value;
  for (;;) {
    for (const event of batch) {
      context.emit(context.json ? JSON.stringify(event) : eventLine(context, event));
      newest = event.number;
    }
    const next = await context.ask<EventJson[]>("GET", `/v1/events?after=${newest}&waitMs=${followWaitMs}`);
    if (!next.ok) return { kind: "refused", code: next.code, text: next.text };
    batch = next.value;
  }
}

function eventLine(context: Context, event: EventJson): string {
  return `${tone(context.style, "dim", event.at)}  ${tone(context.style, "bold", event.code)}  ${printable(event.text)}`;
}

async function bundle(context: Context, call: Given): Promise<Outcome> {
  const answer = await context.ask<unknown>("GET", "/v1/support");
  if (!answer.ok) return { kind: "refused", code: answer.code, text: answer.text };
  const text = JSON.stringify(answer.value, null, 2);
  const path = call.text("out");
  if (path === null) return { kind: "done", json: answer.value, text };
  const fault = context.writeFile(path, `${text}\n`);
  if (fault !== null) return { kind: "refused", code: "failed", text: `cannot write ${path}: ${fault}` };
  return { kind: "done", json: { written: path, bytes: text.length + 1 }, text: `wrote ${path}` };
}
