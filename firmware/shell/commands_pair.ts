/** `pair`: the two appliances of an array: who owns it, how the copy of the write cache is, and moving the ownership. */
import type { FailoverJson } from "../manage/control.ts";
import type { PairStatusJson } from "../manage/status_json.ts";
import { answered, type Command, timeoutOf, timeoutOption } from "./command.ts";
import { formatBytes } from "./quantities.ts";
import { pairs, type Style, type Tone, tone } from "./screen.ts";

const meanings: Readonly<Record<PairStatusJson["state"], { readonly tone: Tone; readonly text: string }>> = {
  mirrored: { tone: "good", text: "both write caches hold everything acknowledged; either appliance can be lost" },
  copying: {
    tone: "warn",
    text: "the partner's copy of the write cache is being completed; every ack waits for the shelf",
  },
  degraded: { tone: "bad", text: "the partner has no copy of the write cache; every ack waits for the shelf" },
  isolated: { tone: "bad", text: "the interconnect is cut, and the partner owns the array; this appliance waits" },
  starting: { tone: "warn", text: "who owns the array is not settled here" },
};

export const pairCommands: readonly Command[] = [
  {
    noun: "pair",
    verb: "status",
    summary: "who owns the array, and how the copy of the write cache is",
    details: "Answered by the appliance that is asked, as it sees the pair itself.",
    args: [],
    options: [],
    run: ({ ask, style }) => answered(ask<PairStatusJson>("GET", "/v1/pair"), (status) => statusText(style, status)),
  },
  {
    noun: "pair",
    verb: "failover",
    summary: "hand the array over to the partner, without losing an I/O",
    details:
      "Hosts' sessions are closed, and begin anew with the new owner through either appliance. Needs a mirrored pair.\n" +
      "Without --to the appliance that does not own the array gets it.",
    args: [],
    options: [
      {
        name: "to",
        kind: "text",
        value: "APPLIANCE",
        what: "which one is to own it; nothing happens when it does already",
      },
      timeoutOption,
    ],
    long: true,
    run: ({ ask }, call) =>
      answered(
        ask<FailoverJson>("POST", "/v1/pair/failover", { to: call.text("to"), ...timeoutOf(call) }),
        ({ owner, changed }) => `${owner} owns the array ${changed ? "now" : "already"}`,
      ),
  },
  {
    noun: "pair",
    verb: "move",
    summary: "hand one group over to the partner (not in this version: pair failover moves all)",
    args: [{ name: "GROUP", what: "as in goldcopy group list" }],
    options: [
      { name: "to", kind: "text", value: "APPLIANCE", what: "which one is to own it", required: true },
      timeoutOption,
    ],
    run: ({ ask }, call) =>
      answered(
        ask<FailoverJson>("POST", "/v1/pair/move", { group: call.arg(0), to: call.text("to"), ...timeoutOf(call) }),
        ({ owner }) => `${owner} owns it`,
      ),
  },
];

function statusText(style: Style, status: PairStatusJson): string {
  const meaning = meanings[status.state];
  const copied =
    status.state === "copying"
      ? ` (${formatBytes(status.copiedBytes)} of ${formatBytes(status.cacheBytes)} compared)`
      : "";
  return pairs(style, [
    ["state", `${tone(style, meaning.tone, status.state)}: ${meaning.text}${copied}`],
    ["owner", status.owner ?? "not known here"],
    ["this appliance", `${status.appliance} (${status.role})`],
    ["partner", status.partner],
    ...status.nics.map(
      ({ name, up }) =>
        [name, up ? tone(style, "good", "up") : tone(style, "bad", "does not reach the partner")] as const,
    ),
  ]);
}
