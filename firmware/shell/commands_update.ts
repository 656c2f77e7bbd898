/** `update`: a new version of the appliance image, from a signed bundle into the slot that does not run. */
import type { ApplianceImage, BundleSource, SignatureCheck, UpdateKey } from "../../hal/api/appliance_image.ts";
import type { FailoverJson } from "../manage/control.ts";
import type { PairStatusJson, StatusJson, TrialJson } from "../manage/status_json.ts";
import { confirmVersion } from "../update/confirm.ts";
import { installBundle, verifyBundle } from "../update/install.ts";
import { encodeNotes, notesOfRunning, readNotes, type UpdateNotes } from "../update/notes.ts";
import { isAlone, pairTrouble } from "../update/pair_rules.ts";
import { type ReadBundle, readBundle } from "../update/read_bundle.ts";
import type { UpdateRefusal, UpdateResult } from "../update/refusal.ts";
import { rollBack } from "../update/rollback.ts";
import type { Phase } from "../update/slot_state.ts";
import { type SlotJson, type UpdateStatusJson, updateStatus } from "../update/update_status.ts";
import type { OptionSpec } from "./args.ts";
import type { Command, Context, Given, Outcome } from "./command.ts";
import { formatBytes } from "./quantities.ts";
import { pairs, printable, type Style, type Tone, tone } from "./screen.ts";

/** What an update needs of the machine that the command runs on: it works beside the firmware, and also without it. */
export interface UpdateTools {
  /** null: this is no appliance image. */
  image(): ApplianceImage | null;
  /** A file, a URL, or `disk`. */
  source(name: string): BundleSource;
  readonly check: SignatureCheck;
  /** A public key in a PEM file. */
  keyFile(path: string): UpdateKey | { readonly fault: string };
}

const bundleArg = {
  name: "BUNDLE",
  what: "a file, http://HOST/FILE, or `disk`: the *.bundle on a disk or CD labelled GCUPDATE",
};
const restartOption: OptionSpec = {
  name: "restart",
  kind: "flag",
  what: "restart the machine into it; on a pair everything is handed over first",
};

export const updateCommands: readonly Command[] = [
  {
    noun: "update",
    verb: "status",
    summary: "what runs, what lies in the other slot, what the next start starts, and what a new version waits for",
    args: [],
    options: [],
    run: (context) => onImage(context, (image) => status(context, image)),
  },
  {
    noun: "update",
    verb: "verify",
    summary: "read a bundle to its end: signature, machine, versions, and each part's digest; nothing is written",
    details:
      "On an appliance image its own keys and versions count. Elsewhere: --key, and the bundle alone is looked at.",
    args: [bundleArg],
    options: [{ name: "key", kind: "text", value: "FILE", what: "a public key (PEM) instead of the image's own" }],
    run: verify,
  },
  {
    noun: "update",
    verb: "install",
    summary: "put a bundle into the slot that does not run, read it back, and have it started once",
    details:
      "What runs goes on, and is not touched. The new version is started at the next restart, once: it is kept when it serves and its\n" +
      "groups are healthy; otherwise the start after it is again of what runs now. On a pair one appliance at a time, and only while\n" +
      "the pair is mirrored.",
    args: [bundleArg],
    options: [
      restartOption,
      {
        name: "accept-lost-notes",
        kind: "flag",
        what: "the notes about updates are unreadable: what runs counts as the oldest version allowed",
      },
    ],
    run: (context, call) => onImage(context, (image) => install(context, call, image)),
  },
  {
    noun: "update",
    verb: "rollback",
    summary: "start what ran before from now on; or not start what was installed",
    args: [],
    options: [restartOption],
    run: (context, call) => onImage(context, (image) => goBack(context, call, image)),
  },
  {
    noun: "update",
    verb: "confirm",
    summary: "for the supervisor: wait until the version that runs is good, and tell the boot loader",
    args: [],
    options: [],
    run: (context) => onImage(context, (image) => confirm(context, image)),
  },
];

async function onImage(context: Context, run: (image: ApplianceImage) => Promise<Outcome>): Promise<Outcome> {
  const image = context.updates.image();
  if (image !== null) return run(image);
  return {
    kind: "refused",
    code: "not-an-image",
    text:
      "updates are for appliance images, and this is not one: on an ordinary server install the new version as the first one was, " +
      "and start the appliance again",
  };
}

function asOutcome({ code, text }: UpdateRefusal): Outcome {
  return { kind: "refused", code, text };
}

// ---------------------------------------------------------------- status

const phaseTexts: Record<Phase, readonly [Tone, string]> = {
  new: ["warn", "the image's first start: not good yet"],
  good: ["good", "known to work"],
  installed: ["warn", "the other slot is started at the next restart, once"],
  trial: ["warn", "on trial: the next start is of the other slot unless it becomes good"],
  "fallen-back": ["bad", "the other slot was tried and did not work"],
  "going-back": ["warn", "the other slot is started from the next restart on"],
};

async function status({ style }: Context, image: ApplianceImage): Promise<Outcome> {
  const json = await updateStatus(image.slots, image.trialShown());
  return { kind: "done", json, text: statusText(style, json) };
}

function statusText(style: Style, json: UpdateStatusJson): string {
  const [kind, text] = phaseTexts[json.phase];
  const rows: (readonly [string, string])[] = [
    ["state", `${tone(style, kind, json.phase)}: ${text}`],
    ...(json.why === null ? [] : [["why", printable(json.why)] as const]),
    ["running", slotText(json.running)],
    ["other", slotText(json.other)],
    ["next start", `slot ${json.next}`],
    ["machine", json.machine],
    ["counter", json.counter === null ? tone(style, "bad", json.notesTrouble ?? "") : String(json.counter)],
    ["keys", json.keys.length === 0 ? "none: no bundle is accepted" : json.keys.join(", ")],
  ];
  return pairs(style, rows);
}

function slotText({ slot, version, state }: SlotJson): string {
  return `slot ${slot}: ${version ?? (state === "empty" ? "nothing" : "a version that is not noted")}, ${state}`;
}

// ---------------------------------------------------------------- verify

async function verify(context: Context, call: Given): Promise<Outcome> {
  const { updates } = context;
  const source = updates.source(call.arg(0));
  const path = call.text("key");
  if (path !== null) {
    const key = updates.keyFile(path);
    if ("fault" in key) return { kind: "refused", code: "unreadable", text: `${path}: ${key.fault}` };
    const reading = { keys: [key], check: updates.check, judge: () => null, take: () => {} };
    return verified(await readBundle(source, reading));
  }
  return onImage(context, async ({ slots }) => {
    const notes = await readNotes(slots);
    if (!notes.ok) return asOutcome(notes);
    return verified(await verifyBundle({ slots, check: updates.check, notes: notes.value, source }));
  });
}

function verified(result: UpdateResult<ReadBundle>): Outcome {
  if (!result.ok) return asOutcome(result);
  const { manifest, key } = result.value;
  const bytes = manifest.parts.reduce((sum, part) => sum + part.bytes, 0);
  const text = `${manifest.version} (${manifest.commit.slice(0, 12)}) for ${manifest.machine}, counter ${manifest.counter}, ${formatBytes(bytes)}, signed with the key ${key}: whole`;
  return { kind: "done", json: { ...manifest, key }, text };
}

// ---------------------------------------------------------------- install

const busy: Outcome = {
  kind: "refused",
  code: "busy",
  text: "another update command is under way here: wait until it has ended",
};

async function install(context: Context, call: Given, image: ApplianceImage): Promise<Outcome> {
  const { updates, json, emit } = context;
  if (!image.lock()) return busy;
  const pair = await context.ask<PairStatusJson>("GET", "/v1/pair");
  const trial = await context.ask<TrialJson>("GET", "/v1/pair/trial");
  const trouble = pairTrouble({ pair, trial }, image.facts());
  if (trouble !== null) return asOutcome(trouble);
  const notes = await notesFor(image, call.has("accept-lost-notes"));
  if (!notes.ok) return asOutcome(notes);
  const result = await installBundle({
    slots: image.slots,
    check: updates.check,
    notes: notes.value,
    source: updates.source(call.arg(0)),
    tell: (text) => {
      if (!json) emit(printable(text));
    },
  });
  if (!result.ok) return asOutcome(result);
  const { version, slot } = result.value;
  image.say(`${version} is installed in slot ${slot}: the next restart starts it`);
  const text = `${version} is in slot ${slot}; the next restart starts it`;
  return maybeRestart(context, call, image, { ...result.value }, text);
}

async function notesFor({ slots }: ApplianceImage, acceptLost: boolean): Promise<UpdateResult<UpdateNotes>> {
  const read = await readNotes(slots);
  if (read.ok || !acceptLost) return read;
  const notes = notesOfRunning(slots);
  await slots.writeNotes(encodeNotes(notes));
  return { ok: true, value: notes };
}

// ---------------------------------------------------------------- rollback, restart

async function goBack(context: Context, call: Given, image: ApplianceImage): Promise<Outcome> {
  if (!image.lock()) return busy;
  const result = await rollBack(image.slots);
  if (!result.ok) return asOutcome(result);
  const { slot, changed } = result.value;
  const isCancelled = slot === image.slots.running;
  const text = isCancelled
    ? "what was installed is not started; this version goes on"
    : `the next restart starts slot ${slot}${changed ? "" : " already"}`;
  return maybeRestart(context, call, image, { ...result.value }, text);
}

async function maybeRestart(
  context: Context,
  call: Given,
  image: ApplianceImage,
  json: Record<string, unknown>,
  text: string,
): Promise<Outcome> {
  if (!call.has("restart")) return { kind: "done", json: { ...json, restarting: false }, text };
  const handedOver = await handOver(context, image);
  if (handedOver !== null) return { ...handedOver, text: `${text}, but it is not restarted now: ${handedOver.text}` };
  image.restart();
  return { kind: "done", json: { ...json, restarting: true }, text: `${text}, now` };
}

/** Everything to the partner, so that hosts go on. null: done, or there is nobody and nothing to hand over. */
async function handOver({ ask }: Context, image: ApplianceImage): Promise<(Outcome & { kind: "refused" }) | null> {
  const pair = await ask<PairStatusJson>("GET", "/v1/pair");
  if (!pair.ok) {
    return isAlone(pair, image.facts()) ? null : { kind: "refused", code: pair.code, text: pair.text };
  }
  const given = await ask<FailoverJson>("POST", "/v1/pair/failover", { to: pair.value.partner, timeoutMs: 60_000 });
  return given.ok ? null : { kind: "refused", code: given.code, text: given.text };
}

// ---------------------------------------------------------------- confirm

async function confirm({ ask, sleep }: Context, image: ApplianceImage): Promise<Outcome> {
  const outcome = await confirmVersion({
    image,
    sleep,
    status: async () => {
      const answer = await ask<StatusJson>("GET", "/v1/status");
      return answer.ok ? answer.value : null;
    },
  });
  const { version } = image.slots.release;
  const json = { good: outcome === "good" };
  switch (outcome) {
    case "good":
      return { kind: "done", json, text: `${version} works` };
    case "rolled-back":
      return { kind: "done", json, text: `${version} was rolled back: the next restart starts what ran before` };
    case "failed":
      return { kind: "unequal", json, text: `${version} does not work` };
  }
}
