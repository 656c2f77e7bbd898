/**
 * A raw iSCSI initiator: builds any PDU, good or bad, and takes the answers apart. Knows no sockets: bytes go out through `send`, and
 * come in through `received` (in memory: `HostStream`).
 */

/** CRC-32C (RFC 7143 13.1), bit by bit from the reversed polynomial: an independent reference for the tests. */
const table = new Uint32Array(256).map((_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) !== 0 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value >>> 0;
});

export function crc32c(bytes: Uint8Array, previous = 0): number {
  let crc = ~previous >>> 0;
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff]! ^ (crc >>> 8)) >>> 0;
  return ~crc >>> 0;
}

export interface PduFields {
  opcode: number;
  immediate?: boolean;
  /** The second byte. */
  flags?: number;
  /** Bytes 2 and 3. */
  byte2?: number;
  byte3?: number;
  lun?: Uint8Array | number;
  itt?: number;
  /** 32-bit fields by offset. */
  words?: Readonly<Record<number, number>>;
  /** Raw bytes by offset. */
  raw?: Readonly<Record<number, Uint8Array>>;
  ahs?: Uint8Array;
  data?: Uint8Array | string;
  /** What the header claims, when it lies. */
  dataBytes?: number;
  ahsWords?: number;
  headerDigest?: "none" | "good" | "bad";
  dataDigest?: "none" | "good" | "bad";
}

const encoder = new TextEncoder();

export function pdu(fields: PduFields): Uint8Array {
  const ahs = fields.ahs ?? new Uint8Array(0);
  const data = typeof fields.data === "string" ? encoder.encode(fields.data) : (fields.data ?? new Uint8Array(0));
  const header = new Uint8Array(48 + ahs.byteLength);
  const view = new DataView(header.buffer);
  header[0] = fields.opcode | (fields.immediate === true ? 0x40 : 0);
  header[1] = fields.flags ?? 0x80;
  header[2] = fields.byte2 ?? 0;
  header[3] = fields.byte3 ?? 0;
  view.setUint32(4, fields.dataBytes ?? data.byteLength);
  header[4] = fields.ahsWords ?? ahs.byteLength / 4;
  if (typeof fields.lun === "number") header[9] = fields.lun;
  else if (fields.lun !== undefined) header.set(fields.lun, 8);
  view.setUint32(16, fields.itt ?? 0);
  for (const [offset, value] of Object.entries(fields.words ?? {})) view.setUint32(Number(offset), value >>> 0);
  for (const [offset, bytes] of Object.entries(fields.raw ?? {})) header.set(bytes, Number(offset));
  header.set(ahs, 48);
  const padded = new Uint8Array(data.byteLength + (-data.byteLength & 3));
  padded.set(data);
  const parts: Uint8Array[] = [header];
  if ((fields.headerDigest ?? "none") !== "none") parts.push(digest(header, fields.headerDigest === "bad"));
  if (padded.byteLength > 0) {
    parts.push(padded);
    if ((fields.dataDigest ?? "none") !== "none") parts.push(digest(padded, fields.dataDigest === "bad"));
  }
  return concat(parts);
}

function digest(bytes: Uint8Array, bad: boolean): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, (crc32c(bytes) ^ (bad ? 1 : 0)) >>> 0, true);
  return out;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

export class Answer {
  readonly header: Uint8Array;
  readonly data: Uint8Array;
  private readonly view: DataView;

  constructor(header: Uint8Array, data: Uint8Array) {
    this.header = header;
    this.data = data;
    this.view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  }

  get opcode(): number {
    return this.header[0]! & 0x3f;
  }

  get flags(): number {
    return this.header[1]!;
  }

  get itt(): number {
    return this.u32(16);
  }

  get ttt(): number {
    return this.u32(20);
  }

  get statSn(): number {
    return this.u32(24);
  }

  get expCmdSn(): number {
    return this.u32(28);
  }

  get maxCmdSn(): number {
    return this.u32(32);
  }

  /** Login responses: class and detail. */
  get loginStatus(): number {
    return this.view.getUint16(36);
  }

  get text(): string {
    return new TextDecoder().decode(this.data);
  }

  get keys(): Record<string, string> {
    const pairs = this.text.split("\0").filter((item) => item !== "");
    return Object.fromEntries(
      pairs.map((item) => [item.slice(0, item.indexOf("=")), item.slice(item.indexOf("=") + 1)]),
    );
  }

  /** Sense key, ASC and ASCQ in one number, of a SCSI response. */
  get sense(): number {
    const sense = this.data.subarray(2);
    return ((sense[2]! & 15) << 16) | (sense[12]! << 8) | sense[13]!;
  }

  u8(offset: number): number {
    return this.header[offset]!;
  }

  u16(offset: number): number {
    return this.view.getUint16(offset);
  }

  u32(offset: number): number {
    return this.view.getUint32(offset);
  }
}

/** Takes whole PDUs off the front of `bytes`; digests, where they are on, are checked. */
export function takeAnswers(
  bytes: Uint8Array,
  digests: { header?: boolean; data?: boolean } = {},
): { answers: Answer[]; rest: Uint8Array } {
  const answers: Answer[] = [];
  let at = 0;
  for (;;) {
    const left = bytes.byteLength - at;
    if (left < 48) break;
    const view = new DataView(bytes.buffer, bytes.byteOffset + at);
    const dataBytes = view.getUint32(4) & 0xffffff;
    const paddedBytes = dataBytes + (-dataBytes & 3);
    const headerEnd = 48 + (digests.header === true ? 4 : 0);
    const total = headerEnd + paddedBytes + (digests.data === true && dataBytes > 0 ? 4 : 0);
    if (left < total) break;
    const header = bytes.slice(at, at + 48);
    if (digests.header === true && view.getUint32(48, true) !== crc32c(header)) throw new Error("bad header digest");
    const padded = bytes.slice(at + headerEnd, at + headerEnd + paddedBytes);
    if (digests.data === true && dataBytes > 0 && view.getUint32(headerEnd + paddedBytes, true) !== crc32c(padded)) {
      throw new Error("bad data digest");
    }
    answers.push(new Answer(header, padded.subarray(0, dataBytes)));
    at += total;
  }
  return { answers, rest: bytes.slice(at) };
}

export function textOf(keys: Readonly<Record<string, string>>): Uint8Array {
  return encoder.encode(
    Object.entries(keys)
      .map(([key, value]) => `${key}=${value}\0`)
      .join(""),
  );
}

/** Where the initiator's bytes go and come from. */
export interface Wire {
  send(...pieces: Uint8Array[]): void;
  received: Uint8Array;
}

export interface CommandFields {
  lun?: number;
  cdb?: readonly number[] | Uint8Array;
  read?: boolean;
  write?: boolean;
  final?: boolean;
  immediate?: boolean;
  attribute?: number;
  /** Expected Data Transfer Length. */
  expected?: number;
  data?: Uint8Array;
  itt?: number;
  cmdSn?: number;
  ahs?: Uint8Array;
  dataDigest?: "good" | "bad";
}

/** Keeps the sequence numbers of one session. */
export class Initiator {
  readonly wire: Wire;
  cmdSn = 1;
  expStatSn = 0;
  itt = 1;
  tsih = 0;
  isid = new Uint8Array([0x80, 0, 0, 1, 0, 0]);
  cid = 0;
  digests = { header: false, data: false };

  constructor(wire: Wire) {
    this.wire = wire;
  }

  pdu(fields: PduFields): Uint8Array {
    return pdu({
      ...fields,
      headerDigest: fields.headerDigest ?? (this.digests.header ? "good" : "none"),
      dataDigest: fields.dataDigest ?? (this.digests.data ? "good" : "none"),
    });
  }

  send(fields: PduFields): void {
    this.wire.send(this.pdu(fields));
  }

  answers(): Answer[] {
    const { answers, rest } = takeAnswers(this.wire.received, this.digests);
    this.wire.received = new Uint8Array(rest);
    return answers;
  }

  /** The only answer there is. */
  answer(): Answer {
    const answers = this.answers();
    if (answers.length !== 1) {
      throw new Error(`one answer wanted: ${answers.map(({ opcode }) => `0x${opcode.toString(16)}`).join(", ")}`);
    }
    return answers[0]!;
  }

  loginPdu(
    keys: Readonly<Record<string, string>> | Uint8Array,
    fields: { stage?: number; next?: number; transit?: boolean; more?: boolean; version?: number; flags?: number } = {},
  ): Uint8Array {
    const stage = fields.stage ?? 1;
    const transit = fields.transit ?? true;
    const next = fields.next ?? 3;
    const flags = (transit ? 0x80 : 0) | (fields.more === true ? 0x40 : 0) | (stage << 2) | (transit ? next : 0);
    return pdu({
      opcode: 3,
      immediate: true,
      flags: fields.flags ?? flags,
      byte3: fields.version ?? 0,
      itt: this.itt,
      words: { 20: this.cid << 16, 24: this.cmdSn, 28: this.expStatSn },
      raw: { 8: this.isid, 14: new Uint8Array([this.tsih >> 8, this.tsih & 255]) },
      data: keys instanceof Uint8Array ? keys : textOf(keys),
    });
  }

  login(keys: Readonly<Record<string, string>> | Uint8Array, fields?: Parameters<Initiator["loginPdu"]>[1]): Answer {
    this.wire.send(this.loginPdu(keys, fields));
    const answer = this.answer();
    this.tsih = fields?.transit === false ? this.tsih : answer.u16(14);
    return answer;
  }

  commandPdu(fields: CommandFields): Uint8Array {
    const write = fields.write ?? false;
    const data = fields.data ?? new Uint8Array(0);
    const flags =
      (fields.final === false ? 0 : 0x80) |
      (fields.read === true ? 0x40 : 0) |
      (write ? 0x20 : 0) |
      (fields.attribute ?? 1);
    const cdb = new Uint8Array(16);
    cdb.set(fields.cdb ?? [0]);
    const itt = fields.itt ?? this.itt++;
    const cmdSn = fields.cmdSn ?? (fields.immediate === true ? this.cmdSn : this.cmdSn++);
    return this.pdu({
      opcode: 1,
      immediate: fields.immediate ?? false,
      flags,
      lun: fields.lun ?? 0,
      itt,
      words: { 20: fields.expected ?? data.byteLength, 24: cmdSn, 28: this.expStatSn },
      raw: { 32: cdb },
      data,
      ...(fields.ahs === undefined ? {} : { ahs: fields.ahs }),
      ...(fields.dataDigest === undefined ? {} : { dataDigest: fields.dataDigest }),
    });
  }

  /** Returns the ITT. */
  command(fields: CommandFields): number {
    const itt = fields.itt ?? this.itt;
    this.wire.send(this.commandPdu(fields));
    return itt;
  }

  dataOut(fields: {
    itt: number;
    ttt?: number;
    dataSn?: number;
    offset: number;
    data: Uint8Array;
    final?: boolean;
    dataDigest?: "good" | "bad";
  }): void {
    this.send({
      opcode: 5,
      flags: fields.final === false ? 0 : 0x80,
      itt: fields.itt,
      words: {
        20: fields.ttt ?? 0xffffffff,
        28: this.expStatSn,
        36: fields.dataSn ?? 0,
        40: fields.offset,
      },
      data: fields.data,
      ...(fields.dataDigest === undefined ? {} : { dataDigest: fields.dataDigest }),
    });
  }

  nop(data: Uint8Array | string = "", fields: { itt?: number; ttt?: number; immediate?: boolean } = {}): void {
    const immediate = fields.immediate ?? false;
    this.send({
      opcode: 0,
      immediate,
      itt: fields.itt ?? this.itt++,
      words: { 20: fields.ttt ?? 0xffffffff, 24: immediate ? this.cmdSn : this.cmdSn++, 28: this.expStatSn },
      data,
    });
  }

  text(
    keys: Readonly<Record<string, string>> | Uint8Array,
    fields: { itt?: number; ttt?: number; flags?: number } = {},
  ) {
    this.send({
      opcode: 4,
      flags: fields.flags ?? 0x80,
      itt: fields.itt ?? this.itt++,
      words: { 20: fields.ttt ?? 0xffffffff, 24: this.cmdSn++, 28: this.expStatSn },
      data: keys instanceof Uint8Array ? keys : textOf(keys),
    });
  }

  manage(fields: { action: number; tag?: number; lun?: number; refCmdSn?: number; immediate?: boolean }): number {
    const immediate = fields.immediate ?? true;
    const itt = this.itt++;
    this.send({
      opcode: 2,
      immediate,
      flags: 0x80 | fields.action,
      lun: fields.lun ?? 0,
      itt,
      words: {
        20: fields.tag ?? 0xffffffff,
        24: immediate ? this.cmdSn : this.cmdSn++,
        28: this.expStatSn,
        32: fields.refCmdSn ?? 0,
      },
    });
    return itt;
  }

  logout(fields: { reason?: number; cid?: number; immediate?: boolean } = {}): void {
    this.send({
      opcode: 6,
      immediate: fields.immediate ?? true,
      flags: 0x80 | (fields.reason ?? 0),
      itt: this.itt++,
      words: { 20: (fields.cid ?? this.cid) << 16, 24: this.cmdSn, 28: this.expStatSn },
    });
  }
}
