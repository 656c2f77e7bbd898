/**
 * The board profile: what hardware an appliance has, and who its peers are. Pure: a parsed TOML document in, the profile or one
 * line of text out.
 *
 * Invariants:
 * - Every refusal is one line that names the file, the field, what is wrong and the remedy.
 * - An unknown key is refused: a misspelt one must not be a silent default.
 * - What is accepted opens without further questions about its shape: names fit, addresses and paths parse, nothing occurs twice.
 */
import * as v from "valibot";
import { profileConflict } from "./board_profile_conflicts.ts";
import { exampleOf, fieldText, isDevicePath, profileDocument } from "./board_profile_schema.ts";

export interface BoardProfile {
  /** For the HAL; assignable to hal/linux's `LinuxBoard`. */
  readonly board: BoardHardware;
  readonly config: BoardConfig;
  /** The management API's unix socket. */
  readonly socket: string;
  /** Where it is reached from elsewhere, by those who know the secret; null: nowhere. */
  readonly managementPort: { readonly listen: string; readonly secret: string } | null;
  /** Where events are kept. */
  readonly logFile: string;
}

export interface BoardHardware {
  readonly appliance: string;
  readonly hbas: readonly { readonly name: string; readonly listen: string; readonly protocol: string }[];
  readonly nics: readonly { readonly name: string; readonly listen: string }[];
  /** IPv4 addresses that move with the array, and the interfaces that they are on here. */
  readonly services: readonly { readonly address: string; readonly interface: string }[];
  readonly cache: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly persistence: "battery" | "flush";
  };
  readonly shelves: readonly BoardShelf[];
  readonly tls: { readonly certificate: string; readonly key: string; readonly ca: string | null } | null;
  readonly nicShapingFile: string | null;
  /** Left out: an appliance without a partner, or one that cannot switch it off. */
  readonly power?: BoardPower;
}

/** How the partner is switched off: as a process of this machine, or as a virtual machine, through its monitor. */
export type BoardPower =
  | {
      readonly kind: "process";
      readonly array: string;
      readonly appliance: string;
      readonly target: string;
      readonly lockPath: string;
      readonly targetLockPath: string;
    }
  | { readonly kind: "machine"; readonly target: string; readonly monitor: string; readonly restart: boolean };

export interface BoardShelf {
  readonly name: string;
  readonly fencing: "atomic" | "power" | "none";
  readonly disks: readonly {
    readonly slot: number;
    readonly path: string;
    readonly sizeBytes: number | null;
    readonly create: boolean;
  }[];
}

export interface BoardConfig {
  readonly array: { readonly name: string; readonly appliance: string };
  readonly peers: readonly {
    readonly array: string;
    readonly appliances: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  }[];
  readonly link: { readonly heartbeatMs: number; readonly peerTimeoutMs: number };
  /** null: this appliance has the array's shelves to itself. */
  readonly pair: PairConfig | null;
  readonly goldenAccess: "none" | "read-only";
  /** Whether NBD hosts may, or have to, change over to TLS. */
  readonly tls: { readonly nbd: "off" | "optional" | "required" };
  readonly iscsi: {
    /** null: the array's own (`iscsiTargetName`). */
    readonly targetName: string | null;
    /** What the target proves of itself (mutual CHAP). */
    readonly chap: { readonly user: string; readonly secretFile: string } | null;
  };
}

export interface PairConfig {
  readonly partner: string;
  /** The NICs that are the interconnect, by name; they serve no peers. */
  readonly nics: readonly string[];
  /** The partner's interconnect NICs, one for each of `nics`, in their order. */
  readonly addresses: readonly string[];
  /** This one owns when both are free to. */
  readonly preferred: boolean;
  /** After how long of being whole the array goes back to its preferred owner by itself; null: it does not. */
  readonly returnAfterMs: number | null;
  /** Without a copy at the partner what hosts write is acknowledged from the own cache alone. */
  readonly writesBackAlone: boolean;
  readonly heartbeatMs: number;
  /** A partner that has not been heard for so long is lost. */
  readonly limitMs: number;
  /** One that is there, and whose main loop has not turned for so long, is lost as well. */
  readonly hungMs: number;
}

export type BoardProfileOutcome =
  | { readonly ok: true; readonly profile: BoardProfile }
  | { readonly ok: false; readonly text: string };

/** `fileName` is for the messages; `document` is what a TOML parser made of the file. */
export function parseBoardProfile(fileName: string, document: unknown): BoardProfileOutcome {
  const parsed = v.safeParse(profileDocument, document, { abortEarly: true });
  if (!parsed.success) return { ok: false, text: `${fileName}: ${issueText(parsed.issues[0])}` };
  const { chap_user: user, chap_secret_file: file } = parsed.output.iscsi;
  if ((user === undefined) !== (file === undefined)) {
    return {
      ok: false,
      text: `${fileName}: iscsi: chap_user and chap_secret_file belong together; write both or none`,
    };
  }
  const { listen, secret } = parsed.output.manage;
  if ((listen === undefined) !== (secret === undefined))
    return { ok: false, text: `${fileName}: manage: listen and secret belong together; write both or none` };
  const powerFault = faultOfPower(parsed.output.power);
  if (powerFault !== null) return { ok: false, text: `${fileName}: ${powerFault}` };
  const profile = toProfile(parsed.output);
  const conflict = profileConflict(profile);
  return conflict === null ? { ok: true, profile } : { ok: false, text: `${fileName}: ${conflict}` };
}

type ProfileDocument = v.InferOutput<typeof profileDocument>;

function toProfile(document: ProfileDocument): BoardProfile {
  const { array, cache, iscsi, tls } = document;
  return {
    board: {
      appliance: array.appliance,
      hbas: document.hba,
      nics: document.nic,
      services: document.service,
      cache: { path: cache.path, sizeBytes: cache.size, persistence: cache.persistence },
      shelves: document.shelf.map(({ name, fencing, disk }) => ({
        name,
        fencing,
        disks: disk.map(({ slot, path, size, create }) => ({
          slot,
          path,
          sizeBytes: size ?? null,
          // A device is never created; a file is, once its size is known.
          create: create ?? (size !== undefined && !isDevicePath(path)),
        })),
      })),
      tls: tls === undefined ? null : { certificate: tls.certificate, key: tls.key, ca: tls.ca ?? null },
      nicShapingFile: document.nic_shaping?.file ?? null,
      ...powerOf(document),
    },
    config: {
      array: { name: array.name, appliance: array.appliance },
      peers: document.peer,
      link: { heartbeatMs: document.link.heartbeat_ms, peerTimeoutMs: document.link.peer_timeout_ms },
      pair: pairOf(document),
      goldenAccess: array.golden_access,
      tls: { nbd: tls?.nbd ?? "off" },
      iscsi: {
        targetName: iscsi.target_name ?? null,
        chap:
          iscsi.chap_user === undefined || iscsi.chap_secret_file === undefined
            ? null
            : { user: iscsi.chap_user, secretFile: iscsi.chap_secret_file },
      },
    },
    socket: document.manage.socket,
    managementPort: managementPortOf(document),
    logFile: document.log.file,
  };
}

function managementPortOf({ manage: { listen, secret } }: ProfileDocument): BoardProfile["managementPort"] {
  return listen === undefined || secret === undefined ? null : { listen, secret };
}

/** [power] describes one kind of port, wholly. */
function faultOfPower(power: ProfileDocument["power"]): string | null {
  if (power === undefined) return null;
  const { lock, target_lock: targetLock, monitor, restart } = power;
  if (restart !== undefined && monitor === undefined)
    return "power.restart: is for a partner in a virtual machine; write monitor, or remove it";
  if (monitor !== undefined) {
    if (lock === undefined && targetLock === undefined) return null;
    return (
      "power: monitor switches off a partner in a virtual machine, lock and target_lock are for one on the same machine; " +
      "write either monitor, or both locks"
    );
  }
  const missing = lock === undefined ? "lock" : targetLock === undefined ? "target_lock" : null;
  if (missing === null) return null;
  return `power.${missing}: missing; write for example ${exampleOf(["power", missing])}, or for virtual machines ${exampleOf(["power", "monitor"])} alone`;
}

/** The power port's target is the partner; [power] without [pair] has none and is a conflict. */
function powerOf({ array, pair, power }: ProfileDocument): Pick<BoardHardware, "power"> {
  if (power === undefined) return {};
  const target = pair?.partner ?? "";
  const { lock, target_lock: targetLock, monitor, restart = false } = power;
  if (monitor !== undefined) return { power: { kind: "machine", target, monitor, restart } };
  if (lock === undefined || targetLock === undefined) return {};
  const { name, appliance } = array;
  return { power: { kind: "process", array: name, appliance, target, lockPath: lock, targetLockPath: targetLock } };
}

/** Unless the profile says otherwise. */
const hungLimits = 2;
const hungMsMin = 1000;

function pairOf({ pair }: ProfileDocument): PairConfig | null {
  if (pair === undefined) return null;
  const { partner, nics, addresses, preferred, heartbeat_ms: heartbeatMs, missed_max: missedMax } = pair;
  const writesBackAlone = pair.unmirrored === "write-back";
  const returnAfterMs = pair.return_after_s === undefined ? null : pair.return_after_s * 1000;
  const limitMs = heartbeatMs * missedMax;
  const hungMs = pair.hung_ms ?? Math.max(hungLimits * limitMs, hungMsMin);
  return { partner, nics, addresses, preferred, returnAfterMs, writesBackAlone, heartbeatMs, limitMs, hungMs };
}

const valueCharsMax = 60;

function issueText(issue: v.BaseIssue<unknown>): string {
  const keys = issue.path?.map((item) => item.key) ?? [];
  const field = keys.length === 0 ? "the profile" : fieldText(keys);
  if (issue.type === "strict_object" && issue.expected === "never") {
    return `${field}: unknown key; correct its spelling or remove it`;
  }
  const example = exampleOf(keys);
  const remedy = example === null ? "see images/profiles for examples" : `write for example ${example}`;
  if (issue.input === undefined) return `${field}: missing; ${remedy}`;
  // What was meant to be a secret is nothing for consoles and logs.
  const value = keys.at(-1) === "secret" ? "what is written" : valueText(issue.input);
  return `${field}: ${value} ${issue.message}; ${remedy}`;
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "a table";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > valueCharsMax ? `${text.slice(0, valueCharsMax)}…` : text;
}
