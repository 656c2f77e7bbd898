/**
 * Which slot runs, which one is started next, and what each transition writes into the boot loader's variables (images/boot/grub.cfg).
 *
 *              install                    restart                healthy
 *     good ──────────────▶ installed ──────────────▶ trial ──────────────▶ good
 *      ▲  ▲                    │                       │ restarted before it was good, or rolled back
 *      │  └── rolled back ─────┘                       ▼
 *      │                                          fallen-back   (the slot that ran before runs again)
 *      └── restart ── going-back ◀── rolled back ── good
 *
 *     new: the first start of an image. It becomes good as a trial does; there is nothing to fall back to.
 *
 * Each transition is one write of one sector. A version on trial is started once: `tries` begins at 2, the boot loader makes it 3, and the
 * next start belongs to the other slot. `trial` names the slot that was installed last until it is good; the boot loader leaves it alone.
 */
import type { SlotName } from "../../hal/api/appliance_image.ts";

export type BootVariables = Readonly<Record<string, string>>;

export const phases = ["new", "good", "installed", "trial", "fallen-back", "going-back"] as const;
export type Phase = (typeof phases)[number];

export function otherSlot(slot: SlotName): SlotName {
  return slot === "a" ? "b" : "a";
}

/** What the boot loader takes: anything but `b` is a. */
export function nextSlot(variables: BootVariables): SlotName {
  return variables["next"] === "b" ? "b" : "a";
}

export function isGood(variables: BootVariables, slot: SlotName): boolean {
  return variables[`good_${slot}`] === "1";
}

export function phaseOf(variables: BootVariables, running: SlotName): Phase {
  const next = nextSlot(variables);
  const { trial } = variables;
  if (next !== running) return trial === next ? "installed" : "going-back";
  if (trial === running) return "trial";
  if (trial === otherSlot(running)) return "fallen-back";
  return isGood(variables, running) ? "good" : "new";
}

/** Before a byte of the other slot is touched: nothing leads there. */
export function variablesToWrite(running: SlotName): BootVariables {
  return { next: running, tries: "0", [`good_${otherSlot(running)}`]: "0", trial: "" };
}

/** The other slot is complete: it is started once. */
export function variablesOfTrial(running: SlotName): BootVariables {
  const slot = otherSlot(running);
  return { next: slot, tries: "2", [`good_${slot}`]: "0", trial: slot };
}

/** What runs has been found to work. */
export function variablesOfGood(running: SlotName): BootVariables {
  return { next: running, tries: "0", [`good_${running}`]: "1", trial: "" };
}

/** An installed version is not started after all. */
export function variablesOfCancelled(running: SlotName): BootVariables {
  return { next: running, tries: "0", trial: "" };
}

/** What ran before is started from now on. */
export function variablesOfGoingBack(running: SlotName): BootVariables {
  return { next: otherSlot(running), tries: "0", trial: "" };
}
