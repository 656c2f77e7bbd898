/** The board profile's TOML, field by field: what each may hold, and an example for the message when it does not. */
import * as v from "valibot";
import { parseSize } from "../codec/sizes.ts";

/** An appliance's and an array's name: they travel in NIC preambles (24 bytes) and superblocks. */
export const nameCharsMax = 24;
/** A port's or shelf's name: it travels in NIC preambles (16 bytes). */
const portNameCharsMax = 16;
/** sun_path of Linux has 108 bytes, the last a zero. */
const socketPathBytesMax = 107;
const pathCharsMax = 4096;
/** The smallest in which every group of a small array has its segments; the largest that is mapped without thought. */
const cacheBytesMin = 1024 * 1024;
const cacheBytesMax = 64 * 1024 ** 3;
const slotMax = 255;
/** Each is held anew every second. */
const servicesMax = 16;
const blockBytes = 4096;

const text = v.string("is not a text in quotes");

function nameOf(charsMax: number) {
  const form = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,${charsMax - 1}}$`);
  return v.pipe(text, v.regex(form, `is not a name of 1 to ${charsMax} letters, digits, dots and dashes`));
}

const name = nameOf(nameCharsMax);
const portName = nameOf(portNameCharsMax);

const path = v.pipe(
  text,
  v.check((value) => value.startsWith("/") && !value.includes("\0"), "is not an absolute path"),
  v.maxLength(pathCharsMax, `is longer than ${pathCharsMax} characters`),
);

/** RFC 7143 4.2.7: in lower case, as initiators compare it. */
const iscsiName = v.pipe(text, v.regex(/^iqn\.\d{4}-\d{2}\.[a-z0-9.:-]{1,210}$/, "is not an iSCSI name in lower case"));

const address = v.pipe(text, v.check(isAddress, "is not HOST:PORT"));

const remoteAddress = v.pipe(
  address,
  v.check((value) => !/:0+$/.test(value), "has port 0, which nobody can reach"),
);

/** Of a virtual machine (QEMU's QMP). */
const monitor = v.pipe(
  text,
  v.check(
    (value) =>
      (isAddress(value) && !/:0+$/.test(value)) || (/^\/[^\0]+$/.test(value) && value.length <= socketPathBytesMax),
    "is neither HOST:PORT nor the path of a unix socket",
  ),
);

/** Whether a disk at this path is a device. In /dev/shm lie files. */
export function isDevicePath(value: string): boolean {
  return value.startsWith("/dev/") && !value.startsWith("/dev/shm/");
}

function isAddress(value: string): boolean {
  const port = /^(?:\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):(\d{1,5})$/.exec(value)?.[1];
  return port !== undefined && Number(port) <= 65535;
}

/** Bytes, from a number or a text like `256MiB`. */
const size = v.pipe(
  v.union([v.number(), v.string()], "is not a size"),
  v.check((value) => parseSize(String(value)) !== null, "is not a size"),
  v.transform((value) => parseSize(String(value)) ?? 0),
  v.minValue(blockBytes, `is less than ${blockBytes} bytes`),
  v.multipleOf(blockBytes, `is not a multiple of ${blockBytes} bytes`),
);

function wholeNumber(least: number, most: number) {
  const message = `is not a whole number from ${least} to ${most}`;
  return v.pipe(v.number(message), v.integer(message), v.minValue(least, message), v.maxValue(most, message));
}

function listOf<Item extends v.BaseSchema<unknown, unknown, v.BaseIssue<unknown>>>(item: Item, least: number) {
  return v.pipe(v.array(item, "is not a list"), v.minLength(least, `is too short: at least ${least} are needed`));
}

const noTable = "is not a table";

const hba = v.strictObject(
  {
    name: portName,
    listen: address,
    protocol: v.picklist(["nbd", "iscsi"], "is not a protocol of this version"),
  },
  noTable,
);

const nic = v.strictObject({ name: portName, listen: address }, noTable);

const serviceForm = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)$/;

/** Of an address that moves with the array. An interface's name has 15 bytes (IFNAMSIZ). */
const service = v.strictObject(
  {
    address: v.pipe(
      text,
      v.regex(serviceForm, "is not an IPv4 address alone (IPv6 addresses do not move in this version)"),
    ),
    interface: v.pipe(text, v.regex(/^[^\s/:]{1,15}$/, "is not an interface's name")),
  },
  noTable,
);

const disk = v.strictObject(
  {
    slot: wholeNumber(0, slotMax),
    path,
    size: v.optional(size),
    create: v.optional(v.boolean("is not true or false")),
  },
  noTable,
);

const shelf = v.strictObject(
  {
    name: portName,
    fencing: v.optional(v.picklist(["atomic", "power", "none"], "is not a class of fencing"), "none"),
    disk: listOf(disk, 1),
  },
  noTable,
);

const peer = v.strictObject(
  {
    array: name,
    appliances: listOf(v.strictObject({ name, addresses: listOf(remoteAddress, 1) }, noTable), 1),
  },
  noTable,
);

const pair = v.strictObject(
  {
    partner: name,
    nics: listOf(portName, 1),
    addresses: listOf(remoteAddress, 1),
    preferred: v.optional(v.boolean("is not true or false"), false),
    return_after_s: v.optional(wholeNumber(10, 86_400)),
    unmirrored: v.optional(v.picklist(["write-through", "write-back"], "is not known"), "write-through"),
    heartbeat_ms: v.optional(wholeNumber(10, 10_000), 100),
    missed_max: v.optional(wholeNumber(3, 100), 10),
    hung_ms: v.optional(wholeNumber(100, 1_000_000)),
  },
  noTable,
);

export const profileDocument = v.strictObject(
  {
    array: v.strictObject(
      {
        name,
        appliance: name,
        golden_access: v.optional(v.picklist(["none", "read-only"], "is not an access"), "read-only"),
      },
      noTable,
    ),
    manage: v.strictObject(
      {
        socket: v.pipe(
          path,
          v.maxBytes(socketPathBytesMax, `is longer than the ${socketPathBytesMax} bytes that a unix socket may have`),
        ),
        listen: v.optional(remoteAddress),
        secret: v.optional(
          v.pipe(
            text,
            v.regex(/^[A-Za-z0-9._~-]{16,128}$/, "is not a secret of 16 to 128 letters, digits, dots, dashes, _ and ~"),
          ),
        ),
      },
      noTable,
    ),
    log: v.strictObject({ file: path }, noTable),
    cache: v.strictObject(
      {
        path,
        size: v.pipe(
          size,
          v.minValue(cacheBytesMin, "is less than 1MiB"),
          v.maxValue(cacheBytesMax, "is more than 64GiB"),
        ),
        persistence: v.picklist(["battery", "flush"], "is not a persistence domain"),
      },
      noTable,
    ),
    hba: listOf(hba, 2),
    nic: listOf(nic, 2),
    service: v.optional(
      v.pipe(v.array(service, "is not a list"), v.maxLength(servicesMax, "is too long: 16 at most")),
      [],
    ),
    shelf: listOf(shelf, 1),
    pair: v.optional(pair),
    power: v.optional(
      v.strictObject(
        {
          lock: v.optional(path),
          target_lock: v.optional(path),
          monitor: v.optional(monitor),
          restart: v.optional(v.boolean("is not true or false")),
        },
        noTable,
      ),
    ),
    peer: v.optional(v.array(peer, "is not a list"), []),
    link: v.optional(
      v.strictObject(
        {
          heartbeat_ms: v.optional(wholeNumber(10, 60_000), 100),
          peer_timeout_ms: v.optional(wholeNumber(50, 600_000), 1000),
        },
        noTable,
      ),
      {},
    ),
    tls: v.optional(
      v.strictObject(
        {
          certificate: path,
          key: path,
          ca: v.optional(path),
          nbd: v.optional(v.picklist(["off", "optional", "required"], "is not a use of TLS"), "required"),
        },
        noTable,
      ),
    ),
    iscsi: v.optional(
      v.strictObject(
        {
          target_name: v.optional(iscsiName),
          chap_user: v.optional(v.pipe(text, v.regex(/^[!-~]{1,223}$/, "is not a name of printable ASCII"))),
          chap_secret_file: v.optional(path),
        },
        noTable,
      ),
      {},
    ),
    nic_shaping: v.optional(v.strictObject({ file: path }, noTable)),
  },
  "is not a profile",
);

/** By field, list indexes left out. */
const examples: Readonly<Record<string, string>> = {
  array: '[array] with name = "oak" and appliance = "oak-a"',
  "array.name": 'name = "oak"',
  "array.appliance": 'appliance = "oak-a"',
  "array.golden_access": 'golden_access = "read-only" or "none"',
  manage: '[manage] with socket = "/run/goldcopy/oak-a.sock"',
  "manage.socket": 'socket = "/run/goldcopy/oak-a.sock"',
  "manage.listen": 'listen = "192.0.2.10:7600"',
  "manage.secret": 'secret = "hJ4vQm9ZtX2cLr7w"',
  log: '[log] with file = "/var/log/goldcopy/oak-a.log"',
  "log.file": 'file = "/var/log/goldcopy/oak-a.log"',
  cache: '[cache] with path = "/var/lib/goldcopy/nvram", size = "256MiB" and persistence = "battery"',
  "cache.path": 'path = "/var/lib/goldcopy/nvram"',
  "cache.size": '"256MiB"',
  "cache.persistence": 'persistence = "battery" or "flush"',
  hba: 'two [[hba]] tables, each with name, listen = "127.0.0.1:10809" and protocol = "nbd" or "iscsi"',
  "hba.name": 'name = "hba0"',
  "hba.listen": 'listen = "127.0.0.1:10809"',
  "hba.protocol": 'protocol = "nbd" or "iscsi"',
  nic: 'two [[nic]] tables, each with name and listen = "127.0.0.1:7000"',
  "nic.name": 'name = "nic0"',
  "nic.listen": 'listen = "127.0.0.1:7000"',
  service: 'a [[service]] table with address = "192.0.2.100" and interface = "eth0"',
  "service.address": 'address = "192.0.2.100"',
  "service.interface": 'interface = "eth0"',
  shelf: 'a [[shelf]] table with name = "shelf0" and its [[shelf.disk]] tables',
  "shelf.name": 'name = "shelf0"',
  "shelf.fencing": 'fencing = "none", or "power" or "atomic" in a pair',
  "shelf.disk": 'a [[shelf.disk]] table with slot = 0, path = "/srv/shelf0/0.disk" and size = "10GiB"',
  "shelf.disk.slot": "slot = 0",
  "shelf.disk.path": 'path = "/srv/shelf0/0.disk"',
  "shelf.disk.size": '"10GiB"',
  "shelf.disk.create": "create = true",
  pair: '[pair] with partner = "oak-b", nics = ["ic0", "ic1"] and addresses = ["192.0.2.21:7500", "192.0.2.22:7500"]',
  "pair.partner": 'partner = "oak-b"',
  "pair.nics": 'nics = ["ic0", "ic1"]',
  "pair.addresses": 'addresses = ["192.0.2.21:7500", "192.0.2.22:7500"]',
  "pair.preferred": "preferred = true",
  "pair.return_after_s": "return_after_s = 60",
  "pair.unmirrored": 'unmirrored = "write-through", or "write-back" at your own risk',
  "pair.heartbeat_ms": "heartbeat_ms = 100",
  "pair.missed_max": "missed_max = 10",
  "pair.hung_ms": "hung_ms = 2000",
  power: '[power] with lock = "/run/goldcopy/oak-a.life" and target_lock = "/run/goldcopy/oak-b.life"',
  "power.lock": 'lock = "/run/goldcopy/oak-a.life"',
  "power.target_lock": 'target_lock = "/run/goldcopy/oak-b.life"',
  "power.monitor": 'monitor = "10.0.2.2:4444"',
  "power.restart": "restart = true",
  peer: 'a [[peer]] table with array = "elm" and its appliances',
  "peer.array": 'array = "elm"',
  "peer.appliances": 'appliances = [{ name = "elm-a", addresses = ["127.0.0.1:7100"] }]',
  "peer.appliances.name": 'name = "elm-a"',
  "peer.appliances.addresses": 'addresses = ["127.0.0.1:7100"]',
  "link.heartbeat_ms": "heartbeat_ms = 100",
  "link.peer_timeout_ms": "peer_timeout_ms = 1000",
  tls: '[tls] with certificate = "/etc/goldcopy/tls.pem" and key = "/etc/goldcopy/tls.key"',
  "tls.certificate": 'certificate = "/etc/goldcopy/tls.pem"',
  "tls.key": 'key = "/etc/goldcopy/tls.key"',
  "tls.ca": 'ca = "/etc/goldcopy/hosts-ca.pem"',
  "tls.nbd": 'nbd = "required", "optional" or "off"',
  "iscsi.target_name": 'target_name = "iqn.2026-11.org.goldcopy:oak"',
  "iscsi.chap_user": 'chap_user = "oak"',
  "iscsi.chap_secret_file": 'chap_secret_file = "/etc/goldcopy/oak.secret"',
  "nic_shaping.file": 'file = "/var/lib/goldcopy/shapings.json"',
};

export function exampleOf(keys: readonly unknown[]): string | null {
  return examples[keys.filter((key) => typeof key === "string").join(".")] ?? null;
}

/** `shelf[0].disk[2].size` */
export function fieldText(keys: readonly unknown[]): string {
  let field = "";
  for (const key of keys) {
    if (typeof key === "number") field += `[${key}]`;
    else field += field === "" ? String(key) : `.${String(key)}`;
  }
  return field;
}
