/** `pair`: the two appliances of an array: who owns it, how the copy of the write cache is, and moving the ownership. */
import type { FailoverJson } from "../manage/control.ts";
import type { PairStatusJson } from "../manage/status_json.ts";
import { answered, type Command, timeoutOf, timeoutOption } from "./command.ts";
import { formatBytes } from "./quantities.ts";
import { pairs, printable, type Style, type Tone, tone } from "./screen.ts";

const meanings: Readonly<Record<PairStatusJson["state"], { readonly tone: Tone; readonly text: string }>> = {
  mirrored: { tone: "good", text: "both write caches hold everything acknowledged; either appliance can be lost" },
  copying: {
    tone: "warn",
    text: "the partner's copy of the write cache is being completed; every ack waits for the shelf",
  },
  degraded: { tone: "bad", text: "the partner has no copy of the write cache; every ack waits for the shelf" },
  isolated: {
    tone: "bad",
    text: "the interconnect is cut: each appliance goes on with what it owns, and does not reach the other's",
  },
  starting: { tone: "warn", text: "who owns a part of the array is not settled here" },
};

export const pairCommands: readonly Command[] = [
  {
    noun: "pair",
    verb: "status",
    summary: "who owns the array's halves, and how the copies of the write cache are",
    details: "Answered by the appliance that is asked, as it sees the pair itself; the warnings are of both.",
    args: [],
    options: [],
    run: ({ ask, style }) => answered(ask<PairStatusJson>("GET", "/v1/pair"), (status) => statusText(style, status)),
  },
  {
    noun: "pair",
    verb: "failover",
    summary: "hand everything over to one appliance, without losing an I/O",
    details:
      "Hosts' iSCSI sessions go on, and their commands wait for a moment; NBD sessions end, and begin anew at either appliance. Needs a\n" +
      "mirrored pair. Without --to the appliance that does not own the first half gets everything. --home gives each appliance its own\n" +
      "half again.",
    args: [],
    options: [
      {
        name: "to",
        kind: "text",
        value: "APPLIANCE",
        what: "which one is to own everything; nothing happens when it does already",
      },
      { name: "home", kind: "flag", what: "each half to its preferred owner" },
      timeoutOption,
    ],
    long: true,
    run: ({ ask }, call) => {
      const home = call.has("home");
      return answered(
        ask<FailoverJson>("POST", "/v1/pair/failover", {
          to: call.text("to"),
          ...(home ? { home } : {}),
          ...timeoutOf(call),
        }),
        ({ owner, changed }) =>
          home
            ? `each half is owned by its preferred owner ${changed ? "now" : "already"}`
            : `${owner} owns the array ${changed ? "now" : "already"}`,
      );
    },
  },
  {
    noun: "pair",
    verb: "move",
    summary: "hand one group over to the other appliance, without losing an I/O",
    details:
      "Nothing is copied. First the shelf takes what only the write cache holds, while hosts go on; then their commands wait for a moment.\n" +
      "An appliance that owns nothing gets its half of the array back first, with the groups that are in it.",
    args: [{ name: "GROUP", what: "as in goldcopy group list" }],
    options: [
      { name: "to", kind: "text", value: "APPLIANCE", what: "which one is to serve it", required: true },
      timeoutOption,
    ],
    long: true,
    run: ({ ask }, call) =>
      answered(
        ask<FailoverJson>("POST", "/v1/pair/move", { group: call.arg(0), to: call.text("to"), ...timeoutOf(call) }),
        ({ owner, changed }) => `${owner} serves ${call.arg(0)} ${changed ? "now" : "already"}`,
      ),
  },
];

/** Warnings that mean that the partner would not take over. */
const notTaken: readonly string[] = ["pair-disks-missing", "power-port-wrong", "partner-not-fenced"];

function meaningOf({ state, warnings = [], writesBackAlone }: PairStatusJson): {
  readonly tone: Tone;
  readonly text: string;
} {
  if (state === "degraded" && writesBackAlone)
    return {
      tone: "bad",
      text: "the partner has no copy of the write cache, and what hosts write now is lost with this one",
    };
  if (state === "mirrored" && warnings.some(({ code }) => notTaken.includes(code)))
    return { tone: "warn", text: "both write caches hold everything acknowledged; but see the warnings" };
  return meanings[state];
}

function statusText(style: Style, status: PairStatusJson): string {
  const meaning = meaningOf(status);
  const copied =
    status.state === "copying"
      ? ` (${formatBytes(status.copiedBytes)} of ${formatBytes(status.cacheBytes)} compared)`
      : "";
  const table = pairs(style, [
    ["state", `${tone(style, meaning.tone, status.state)}: ${meaning.text}${copied}`],
    ...status.halves.map(({ half, owner, preferredOwner, state }) => {
      const away = owner !== null && owner !== preferredOwner ? `, preferred is ${preferredOwner}` : "";
      const name = half === 1 ? "first half" : "second half";
      return [name, `${owner ?? "owner not known here"} (${tone(style, meanings[state].tone, state)}${away})`] as const;
    }),
    ["this appliance", status.appliance],
    ["partner", status.partner],
    ...status.nics.map(
      ({ name, up }) =>
        [name, up ? tone(style, "good", "up") : tone(style, "bad", "does not reach the partner")] as const,
    ),
  ]);
  // Another version may say nothing of them.
  const { warnings = [] } = status;
  const lines = warnings.map(({ code, text }) => `${tone(style, "warn", "warning")} ${printable(text)} (${code})`);
  return lines.length === 0 ? table : `${table}\n\n${lines.join("\n")}`;
}
