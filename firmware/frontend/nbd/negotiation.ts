/**
 * The meaning of the handshake (specification: "Fixed newstyle negotiation"): client flags and options in, bytes to send and what
 * happens next out.
 *
 *   flags ──▶ haggling ──option──▶ haggling        (LIST, INFO, STRUCTURED_REPLY, meta contexts, anything refused)
 *                 ├──STARTTLS──▶ TLS ──▶ haggling anew, nothing kept but the client flags (`secured`)
 *                 ├──GO, EXPORT_NAME──▶ transmission
 *                 ├──ABORT──▶ closed (after the ACK)
 *                 └──violation, EXPORT_NAME that cannot be served──▶ closed
 *
 * Invariants:
 * - Every option but EXPORT_NAME gets exactly one final reply; an unknown one gets ERR_UNSUP and the haggling goes on.
 * - A target is open only when the result is `transmit`; what INFO opens to look at, it closes.
 * - Where TLS is required, nothing but STARTTLS and ABORT is answered before it, and no name of an export is said.
 * - Block status is on only if the client selected `base:allocation`, with structured replies, for the very export it opens.
 */
import { type BlockTarget, type ExportTable, logicalBlockBytes } from "../../volume/block_request.ts";
import type { HostIdentity } from "../../volume/host_access.ts";
import {
  baseAllocation,
  baseAllocationId,
  HandshakeFlag,
  type HeaderForm,
  Info,
  Option,
  Rep,
  TransmissionFlag,
} from "./constants.ts";
import type { NbdLimits } from "./limits.ts";
import {
  concatBytes,
  decodeGo,
  decodeMetaContext,
  decodeString,
  type ExportFacts,
  encodeErrorReply,
  encodeExportNameAnswer,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContextReply,
  encodeReply,
  encodeServerReply,
} from "./option_codec.ts";

/** Whether a host may, or has to, change over to TLS before it is told anything (specification: NOTLS, SELECTIVETLS, FORCEDTLS). */
export type TlsUse = "off" | "optional" | "required";

export interface Selection {
  readonly target: BlockTarget;
  readonly form: HeaderForm;
  readonly blockStatus: boolean;
}

export type Haggling =
  | { readonly kind: "continue"; readonly reply: Uint8Array }
  | { readonly kind: "transmit"; readonly reply: Uint8Array; readonly selection: Selection }
  /** The reply goes out in plain; what the host sends next is TLS. */
  | { readonly kind: "start-tls"; readonly reply: Uint8Array }
  /** An orderly end, at the client's wish. */
  | { readonly kind: "close"; readonly reply: Uint8Array }
  /** The client broke the protocol, or asked by EXPORT_NAME for what it cannot have. */
  | { readonly kind: "violation"; readonly code: string; readonly text: string };

const emptyReply = new Uint8Array(0);

export class Negotiation {
  private readonly exports: ExportTable;
  private readonly host: HostIdentity;
  private readonly limits: NbdLimits;
  private readonly tls: TlsUse | "active";
  private fixedNewstyle = false;
  private noZeroes = false;
  private form: HeaderForm = "simple";
  /** The export for which `base:allocation` was selected. */
  private metaContextExport: string | null = null;
  private optionCount = 0;

  constructor(exports: ExportTable, host: HostIdentity, limits: NbdLimits, tls: TlsUse | "active" = "off") {
    this.tls = tls;
    this.exports = exports;
    this.host = host;
    this.limits = limits;
  }

  /** The haggling begins anew inside TLS: nothing that was said in plain counts but the client flags. */
  secured(tlsName: string | null): Negotiation {
    const fresh = new Negotiation(this.exports, { ...this.host, tlsName }, this.limits, "active");
    fresh.fixedNewstyle = this.fixedNewstyle;
    fresh.noZeroes = this.noZeroes;
    fresh.optionCount = this.optionCount;
    return fresh;
  }

  flags(flags: number): Haggling {
    if ((flags & ~(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes)) !== 0) {
      return violation("nbd-bad-client-flags", `unknown client flags 0x${flags.toString(16)}`);
    }
    this.fixedNewstyle = (flags & HandshakeFlag.fixedNewstyle) !== 0;
    this.noZeroes = (flags & HandshakeFlag.noZeroes) !== 0;
    return goOn(emptyReply);
  }

  /** `data` is null when there was more of it than is looked at; it has been skipped then. */
  option(option: number, data: Uint8Array | null): Haggling {
    this.optionCount++;
    if (this.optionCount > this.limits.optionsMax) {
      return violation("nbd-too-many-options", `more than ${this.limits.optionsMax} options in one handshake`);
    }
    if (option === Option.exportName) {
      if (this.tls === "required") return violation("nbd-tls-required", "EXPORT_NAME before TLS, which is required");
      return this.exportName(data);
    }
    if (!this.fixedNewstyle) {
      return violation("nbd-option-without-fixed-newstyle", `option ${option} from a client without fixed newstyle`);
    }
    if (option === Option.abort) return { kind: "close", reply: encodeReply(option, Rep.ack) };
    if (this.tls === "required" && option !== Option.starttls) {
      return refuse(option, Rep.errTlsReqd, "TLS is required: send NBD_OPT_STARTTLS first");
    }
    if (data === null) return refuse(option, Rep.errTooBig, "option data is too long");
    switch (option) {
      case Option.list:
        return this.list(option, data);
      case Option.info:
      case Option.go:
        return this.infoOrGo(option, data);
      case Option.structuredReply:
        if (data.byteLength !== 0) return refuse(option, Rep.errInvalid, "NBD_OPT_STRUCTURED_REPLY has no data");
        if (this.form === "extended") {
          return refuse(option, Rep.errExtHeaderReqd, "extended headers are in force and include structured replies");
        }
        this.form = "structured";
        return goOn(encodeReply(option, Rep.ack));
      case Option.extendedHeaders:
        if (data.byteLength !== 0) return refuse(option, Rep.errInvalid, "NBD_OPT_EXTENDED_HEADERS has no data");
        this.form = "extended";
        return goOn(encodeReply(option, Rep.ack));
      case Option.listMetaContext:
      case Option.setMetaContext:
        return this.metaContext(option, data);
      case Option.starttls:
        return this.startTls(option, data);
      default:
        return refuse(option, Rep.errUnsup, "option is not supported");
    }
  }

  private startTls(option: number, data: Uint8Array): Haggling {
    if (data.byteLength !== 0) return refuse(option, Rep.errInvalid, "NBD_OPT_STARTTLS has no data");
    if (this.tls === "active") return refuse(option, Rep.errInvalid, "TLS is in force already");
    if (this.tls === "off") return refuse(option, Rep.errPolicy, "TLS is not configured here");
    return { kind: "start-tls", reply: encodeReply(option, Rep.ack) };
  }

  private exportName(data: Uint8Array | null): Haggling {
    const name = data === null ? null : decodeString(data, this.limits.nameBytesMax);
    if (name === null) return violation("nbd-bad-export-name", "the export name is too long or not a string");
    const opened = this.open(name);
    if (typeof opened === "string") {
      return violation("nbd-export-refused", `export "${printable(name)}": ${refusalText(opened)}`);
    }
    return this.transmit(opened, encodeExportNameAnswer(this.facts(opened, ""), this.noZeroes));
  }

  private list(option: number, data: Uint8Array): Haggling {
    if (data.byteLength !== 0) return refuse(option, Rep.errInvalid, "NBD_OPT_LIST has no data");
    const parts: Uint8Array[] = [];
    for (const info of this.exports.list(this.host)) parts.push(encodeServerReply(option, info.name, info.description));
    parts.push(encodeReply(option, Rep.ack));
    return goOn(concatBytes(parts));
  }

  private infoOrGo(option: number, data: Uint8Array): Haggling {
    const asked = decodeGo(data, this.limits.nameBytesMax);
    if (asked === null) return refuse(option, Rep.errInvalid, "malformed option data");
    const opened = this.open(asked.name);
    if (typeof opened === "string") {
      return refuse(option, opened === "unknown" ? Rep.errUnknown : Rep.errPolicy, refusalText(opened));
    }
    const facts = this.facts(opened, this.description(opened.name));
    const parts = [encodeInfoExport(option, facts)];
    if (asked.infos.includes(Info.name)) parts.push(encodeInfoText(option, Info.name, facts.name));
    if (asked.infos.includes(Info.description) && facts.description !== "") {
      parts.push(encodeInfoText(option, Info.description, facts.description));
    }
    // Told unasked as well: the specification wants a server with constraints to say so.
    parts.push(
      encodeInfoBlockSize(option, {
        minBytes: logicalBlockBytes,
        preferredBytes: this.limits.preferredBlockBytes,
        maxBytes: this.limits.requestBytesMax,
      }),
    );
    parts.push(encodeReply(option, Rep.ack));
    const reply = concatBytes(parts);
    if (option === Option.go) return this.transmit(opened, reply);
    opened.close();
    return goOn(reply);
  }

  private metaContext(option: number, data: Uint8Array): Haggling {
    const setting = option === Option.setMetaContext;
    // A failed SET leaves nothing selected: the client cannot rely on an earlier answer that it tried to replace.
    if (setting) this.metaContextExport = null;
    if (this.form === "simple") return refuse(option, Rep.errInvalid, "structured replies must be negotiated first");
    const asked = decodeMetaContext(data, this.limits.nameBytesMax);
    if (asked === null) return refuse(option, Rep.errInvalid, "malformed option data");
    const opened = this.open(asked.name);
    if (typeof opened === "string") {
      return refuse(option, opened === "unknown" ? Rep.errUnknown : Rep.errPolicy, refusalText(opened));
    }
    const name = opened.name;
    opened.close();
    const matches = setting ? asked.queries.includes(baseAllocation) : listMatches(asked.queries);
    const parts: Uint8Array[] = [];
    if (matches) {
      parts.push(encodeMetaContextReply(option, setting ? baseAllocationId : 0, baseAllocation));
      if (setting) this.metaContextExport = name;
    }
    parts.push(encodeReply(option, Rep.ack));
    return goOn(concatBytes(parts));
  }

  /** The empty name is the default export: the only one that this host may see, when there is only one. */
  private open(name: string): BlockTarget | "unknown" | "not-ready" {
    if (name === "") {
      const visible = this.exports.list(this.host);
      const only = visible[0];
      if (only === undefined || visible.length > 1) return "unknown";
      return this.exports.open(only.name, this.host);
    }
    return this.exports.open(name, this.host);
  }

  private transmit(target: BlockTarget, reply: Uint8Array): Haggling {
    return { kind: "transmit", reply, selection: { target, form: this.form, blockStatus: this.blockStatusOn(target) } };
  }

  private blockStatusOn(target: BlockTarget): boolean {
    return this.form !== "simple" && this.metaContextExport === target.name;
  }

  private description(name: string): string {
    for (const info of this.exports.list(this.host)) if (info.name === name) return info.description;
    return "";
  }

  private facts(target: BlockTarget, description: string): ExportFacts {
    return {
      name: target.name,
      description,
      sizeBytes: target.blockCount() * logicalBlockBytes,
      transmissionFlags: transmissionFlags(target.readOnly(), this.form, this.blockStatusOn(target)),
    };
  }
}

/**
 * Multi-conn holds because every acknowledged write is durable and visible on every session at once. What would change data is
 * not offered on a read-only export.
 */
function transmissionFlags(readOnly: boolean, form: HeaderForm, blockStatus: boolean): number {
  const flag = TransmissionFlag;
  let flags = flag.hasFlags | flag.sendFlush | flag.sendFua | flag.canMultiConn | flag.sendCache;
  if (form !== "simple") flags |= flag.sendDf;
  if (form === "extended" && blockStatus) flags |= flag.blockStatusPayload;
  if (readOnly) flags |= flag.readOnly;
  else flags |= flag.sendTrim | flag.sendWriteZeroes | flag.sendFastZero;
  return flags;
}

/** No query, an empty one and the bare namespace are wildcards when listing (specification: "Metadata querying"). */
function listMatches(queries: readonly string[]): boolean {
  if (queries.length === 0) return true;
  return queries.some((query) => query === "" || query === "base:" || query === baseAllocation);
}

function refusalText(reason: "unknown" | "not-ready"): string {
  return reason === "unknown" ? "no such export for this host" : "the export is not ready now; try again later";
}

function goOn(reply: Uint8Array): Haggling {
  return { kind: "continue", reply };
}

function refuse(option: number, type: number, text: string): Haggling {
  return goOn(encodeErrorReply(option, type, text));
}

function violation(code: string, text: string): Haggling {
  return { kind: "violation", code, text };
}

/** A host's own string in an event: clipped, and without control characters. */
function printable(text: string): string {
  return JSON.stringify(text.slice(0, 64)).slice(1, -1);
}
