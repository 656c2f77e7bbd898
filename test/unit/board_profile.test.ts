import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type BoardProfile, parseBoardProfile } from "../../firmware/manage/board_profile.ts";
import type { LinuxBoard } from "../../hal/linux/board.ts";

const test = suite("board_profile");

const valid = `
[array]
name = "oak"
appliance = "oak-a"
[manage]
socket = "/run/oak-a.sock"
[log]
file = "/var/log/oak-a.log"
[cache]
path = "/nvram/cache"
size = "256MiB"
persistence = "battery"
[[hba]]
name = "hba0"
listen = "127.0.0.1:10809"
protocol = "nbd"
[[hba]]
name = "hba1"
listen = "[::1]:10809"
protocol = "nbd"
[[nic]]
name = "nic0"
listen = "127.0.0.1:7000"
[[nic]]
name = "nic1"
listen = "127.0.0.1:7001"
[[shelf]]
name = "shelf0"
[[shelf.disk]]
slot = 0
path = "/shelf/0"
size = 1073741824
[[shelf.disk]]
slot = 3
path = "/dev/sdb"
[[peer]]
array = "elm"
appliances = [{ name = "elm-a", addresses = ["127.0.0.1:7100"] }]
`;

const parse = (text: string) => parseBoardProfile("oak-a.toml", Bun.TOML.parse(text));
const accepted = (text: string): BoardProfile => {
  const outcome = parse(text);
  if (!outcome.ok) throw new Error(outcome.text);
  return outcome.profile;
};
const refusal = (text: string): string => {
  const outcome = parse(text);
  return outcome.ok ? "accepted" : outcome.text;
};

test("a full profile -> hardware, config and files, with the defaults filled in", () => {
  const { board, config, socket, logFile } = accepted(valid);
  const hardware: LinuxBoard = board;
  assert.equal(hardware, {
    appliance: "oak-a",
    hbas: [
      { name: "hba0", listen: "127.0.0.1:10809", protocol: "nbd" },
      { name: "hba1", listen: "[::1]:10809", protocol: "nbd" },
    ],
    nics: [
      { name: "nic0", listen: "127.0.0.1:7000" },
      { name: "nic1", listen: "127.0.0.1:7001" },
    ],
    cache: { path: "/nvram/cache", sizeBytes: 268435456, persistence: "battery" },
    shelves: [
      {
        name: "shelf0",
        fencing: "none",
        disks: [
          { slot: 0, path: "/shelf/0", sizeBytes: 1073741824, create: true },
          { slot: 3, path: "/dev/sdb", sizeBytes: null, create: false },
        ],
      },
    ],
    tls: null,
    services: [],
    nicShapingFile: null,
  });
  assert.equal(config, {
    array: { name: "oak", appliance: "oak-a" },
    peers: [{ array: "elm", appliances: [{ name: "elm-a", addresses: ["127.0.0.1:7100"] }] }],
    link: { heartbeatMs: 100, peerTimeoutMs: 1000 },
    pair: null,
    goldenAccess: "read-only",
    tls: { nbd: "off" },
    iscsi: { targetName: null, chap: null },
  });
  assert.is(socket, "/run/oak-a.sock");
  assert.is(logFile, "/var/log/oak-a.log");
});

test("a [tls] table -> the port's files, and TLS is required unless it says otherwise", () => {
  const table = (lines: string) => accepted(`${valid}[tls]\ncertificate = "/etc/c.pem"\nkey = "/etc/k.pem"\n${lines}`);
  const plain = table("");
  assert.equal(plain.board.tls, { certificate: "/etc/c.pem", key: "/etc/k.pem", ca: null });
  assert.is(plain.config.tls.nbd, "required");
  const full = table('ca = "/etc/ca.pem"\nnbd = "optional"\n');
  assert.is(full.board.tls?.ca, "/etc/ca.pem");
  assert.is(full.config.tls.nbd, "optional");
});

test("iSCSI ports and an [iscsi] table -> portals, the target's name and secret; what hosts could not use is refused", () => {
  const portals = valid.replaceAll('protocol = "nbd"', 'protocol = "iscsi"');
  const table = (lines: string) => `${portals}[iscsi]\n${lines}`;
  const chap = 'chap_user = "oak"\nchap_secret_file = "/etc/oak.secret"\n';
  const { board, config } = accepted(table(`target_name = "iqn.2026-11.org.example:oak"\n${chap}`));
  assert.equal(
    board.hbas.map(({ protocol }) => protocol),
    ["iscsi", "iscsi"],
  );
  assert.equal(config.iscsi, {
    targetName: "iqn.2026-11.org.example:oak",
    chap: { user: "oak", secretFile: "/etc/oak.secret" },
  });
  for (const lines of ['chap_user = "oak"', 'chap_secret_file = "/etc/oak.secret"'])
    assert.match(refusal(table(lines)), "oak-a.toml: iscsi: chap_user and chap_secret_file belong together");
  assert.match(refusal(table('target_name = "oak"')), "iscsi.target_name");
  assert.match(refusal(table('target_name = "iqn.2026-11.org.Example:oak"')), "iscsi.target_name");
  assert.match(refusal(table('chap_secret = "in the profile itself"')), "iscsi.chap_secret");
  for (const listen of ["0.0.0.0:3260", "[::]:3260"])
    assert.match(refusal(portals.replace("127.0.0.1:10809", listen)), "hba[0].listen");
  accepted(valid.replace("127.0.0.1:10809", "0.0.0.0:10809"));
});

test("the example profiles -> accepted", () => {
  const directory = join(import.meta.dirname, "../../images/profiles");
  const names = readdirSync(directory);
  assert.ok(names.length >= 4);
  for (const name of names) {
    const outcome = parseBoardProfile(name, Bun.TOML.parse(readFileSync(join(directory, name), "utf8")));
    assert.ok(outcome.ok, outcome.ok ? "" : outcome.text);
  }
});

test("a wrong value, an unknown key, something missing -> one line with file, field, fault and remedy", () => {
  const rows: [string, string, string][] = [
    ['"256MiB"', '"12XB"', 'oak-a.toml: cache.size: "12XB" is not a size; write for example "256MiB"'],
    [
      '"256MiB"',
      "1000000",
      'oak-a.toml: cache.size: 1000000 is not a multiple of 4096 bytes; write for example "256MiB"',
    ],
    ['"256MiB"', '"4KiB"', 'oak-a.toml: cache.size: 4096 is less than 1MiB; write for example "256MiB"'],
    ['"256MiB"', "true", 'oak-a.toml: cache.size: true is not a size; write for example "256MiB"'],
    [
      '"battery"',
      '"maybe"',
      'oak-a.toml: cache.persistence: "maybe" is not a persistence domain; write for example persistence = "battery" or "flush"',
    ],
    ['appliance = "oak-a"', "", 'oak-a.toml: array.appliance: missing; write for example appliance = "oak-a"'],
    [
      'appliance = "oak-a"',
      "aplliance = 1",
      'oak-a.toml: array.appliance: missing; write for example appliance = "oak-a"',
    ],
    [
      'appliance = "oak-a"',
      'appliance = "oak a"',
      'oak-a.toml: array.appliance: "oak a" is not a name of 1 to 24 letters, digits, dots and dashes; write for example appliance = "oak-a"',
    ],
    ["[log]", "colour = 1\n[log]", "oak-a.toml: manage.colour: unknown key; correct its spelling or remove it"],
    ["[array]", "[extra]\n[array]", "oak-a.toml: extra: unknown key; correct its spelling or remove it"],
    [
      '"[::1]:10809"',
      '"[::1]"',
      'oak-a.toml: hba[1].listen: "[::1]" is not HOST:PORT; write for example listen = "127.0.0.1:10809"',
    ],
    [
      '"127.0.0.1:7000"',
      '"127.0.0.1:70000"',
      'oak-a.toml: nic[0].listen: "127.0.0.1:70000" is not HOST:PORT; write for example listen = "127.0.0.1:7000"',
    ],
    [
      '"/run/oak-a.sock"',
      '"oak-a.sock"',
      'oak-a.toml: manage.socket: "oak-a.sock" is not an absolute path; write for example socket = "/run/goldcopy/oak-a.sock"',
    ],
    [
      "slot = 3",
      "slot = -1",
      "oak-a.toml: shelf[0].disk[1].slot: -1 is not a whole number from 0 to 255; write for example slot = 0",
    ],
    [
      "slot = 3",
      "slot = 0",
      'oak-a.toml: shelf[0].disk[1].slot: "0" is the slot of shelf[0].disk[0].slot too; give each disk its own slot',
    ],
    [
      '"/dev/sdb"',
      '"/shelf/0"',
      'oak-a.toml: shelf[0].disk[1].path: "/shelf/0" is the path of shelf[0].disk[0].path too; give each its own file',
    ],
    [
      '"/dev/sdb"',
      '"/x"\ncreate = true',
      'oak-a.toml: shelf[0].disk[1].size: missing, but create = true needs it; write for example size = "10GiB"',
    ],
    ['"nic1"', '"nic0"', 'oak-a.toml: nic[1].name: "nic0" is the name of nic[0].name too; give each port its own name'],
    [
      '"127.0.0.1:7001"',
      '"127.0.0.1:7000"',
      'oak-a.toml: nic[1].listen: "127.0.0.1:7000" is the address of nic[0].listen too; give each port its own address',
    ],
    ['"elm"', '"oak"', 'oak-a.toml: peer[0].array: "oak" is this array itself; name the other one'],
    [
      '"elm-a"',
      '"oak-a"',
      'oak-a.toml: peer[0].appliances[0].name: "oak-a" is the name of array.appliance too; give each appliance its own name',
    ],
    [
      '["127.0.0.1:7100"]',
      "[]",
      'oak-a.toml: peer[0].appliances[0].addresses: a list of 0 is too short: at least 1 are needed; write for example addresses = ["127.0.0.1:7100"]',
    ],
    [
      '"127.0.0.1:7100"',
      '"127.0.0.1:0"',
      'oak-a.toml: peer[0].appliances[0].addresses[0]: "127.0.0.1:0" has port 0, which nobody can reach; write for example addresses = ["127.0.0.1:7100"]',
    ],
    [
      "[[peer]]",
      '[tls]\ncertificate = "/c.pem"\n[[peer]]',
      'oak-a.toml: tls.key: missing; write for example key = "/etc/goldcopy/tls.key"',
    ],
    [
      "[[peer]]",
      '[tls]\ncertificate = "/c.pem"\nkey = "/k.pem"\nnbd = "maybe"\n[[peer]]',
      'oak-a.toml: tls.nbd: "maybe" is not a use of TLS; write for example nbd = "required", "optional" or "off"',
    ],
    [
      "[[peer]]",
      '[tls]\ncertificate = "c.pem"\nkey = "/k.pem"\n[[peer]]',
      'oak-a.toml: tls.certificate: "c.pem" is not an absolute path; write for example certificate = "/etc/goldcopy/tls.pem"',
    ],
    [
      "[[peer]]",
      "[link]\npeer_timeout_ms = 200\n[[peer]]",
      "oak-a.toml: link.peer_timeout_ms: 200 is less than 3 heartbeats of 100; write for example peer_timeout_ms = 1000",
    ],
  ];
  for (const [from, to, expected] of rows) {
    assert.ok(valid.includes(from), from);
    assert.is(refusal(valid.replace(from, to)), expected);
  }
});

test("a management port -> with its secret, and nobody else's address", () => {
  const socket = /\[manage\]\n.*\n/.exec(valid)?.[0] ?? "";
  const withPort = (text: string) => valid.replace(socket, `${socket}${text}\n`);
  const right = 'listen = "192.0.2.10:7600"\nsecret = "hJ4vQm9ZtX2cLr7w"';
  assert.is(accepted(valid).managementPort, null);
  assert.equal(accepted(withPort(right)).managementPort, { listen: "192.0.2.10:7600", secret: "hJ4vQm9ZtX2cLr7w" });
  const rows: [string, string][] = [
    ['listen = "192.0.2.10:7600"', "manage: listen and secret belong together; write both or none"],
    ['secret = "hJ4vQm9ZtX2cLr7w"', "manage: listen and secret belong together; write both or none"],
    [
      right.replace("hJ4vQm9ZtX2cLr7w", "short"),
      'manage.secret: what is written is not a secret of 16 to 128 letters, digits, dots, dashes, _ and ~; write for example secret = "hJ4vQm9ZtX2cLr7w"',
    ],
    [
      right.replace(":7600", ""),
      'manage.listen: "192.0.2.10" is not HOST:PORT; write for example listen = "192.0.2.10:7600"',
    ],
    [
      right.replace("192.0.2.10:7600", "127.0.0.1:7000"),
      'manage.listen: "127.0.0.1:7000" is the address of nic[0].listen too; give each port its own address',
    ],
  ];
  for (const [text, expected] of rows) assert.is(refusal(withPort(text)), `oak-a.toml: ${expected}`);
});

const paired = `${valid.replace('name = "shelf0"', 'name = "shelf0"\nfencing = "power"')}
[[nic]]
name = "ic0"
listen = "127.0.0.1:7500"
[[nic]]
name = "ic1"
listen = "127.0.0.1:7510"
[pair]
partner = "oak-b"
nics = ["ic0", "ic1"]
addresses = ["127.0.0.1:7501", "127.0.0.1:7511"]
[power]
lock = "/run/oak-a.life"
target_lock = "/run/oak-b.life"
`;

test("[pair] and [power] -> the partner, its interconnect and the power port, with the defaults filled in", () => {
  const { board, config } = accepted(paired);
  const hardware: LinuxBoard = board;
  assert.equal(hardware.power, {
    kind: "process",
    array: "oak",
    appliance: "oak-a",
    target: "oak-b",
    lockPath: "/run/oak-a.life",
    targetLockPath: "/run/oak-b.life",
  });
  assert.is(hardware.shelves[0]?.fencing, "power");
  assert.equal(config.pair, {
    partner: "oak-b",
    nics: ["ic0", "ic1"],
    addresses: ["127.0.0.1:7501", "127.0.0.1:7511"],
    preferred: false,
    returnAfterMs: null,
    heartbeatMs: 100,
    limitMs: 1000,
    writesBackAlone: false,
    hungMs: 2000,
  });
  const process = paired.slice(paired.indexOf("lock = "));
  for (const monitor of ["10.0.2.2:4444", "/run/qemu/oak-b.qmp"])
    assert.equal(accepted(paired.replace(process, `monitor = "${monitor}"\n`)).board.power, {
      kind: "machine",
      target: "oak-b",
      monitor,
      restart: false,
    });
  const again = accepted(paired.replace(process, 'monitor = "10.0.2.2:4444"\nrestart = true\n')).board.power;
  assert.ok(again?.kind === "machine" && again.restart);
  const chosen = accepted(
    paired.replace("[power]", "preferred = true\nreturn_after_s = 90\nheartbeat_ms = 20\nmissed_max = 5\n[power]"),
  ).config;
  assert.is(chosen.pair?.preferred, true);
  assert.is(chosen.pair?.returnAfterMs, 90_000);
  assert.is(chosen.pair?.heartbeatMs, 20);
  assert.is(chosen.pair?.limitMs, 100);
  assert.is(chosen.pair?.hungMs, 1000, "twice the limit would be less than the least");
  const patient = accepted(paired.replace("[power]", "hung_ms = 5000\n[power]")).config;
  assert.is(patient.pair?.hungMs, 5000);
});

test("disks that evict a lost partner -> a pair without a power port; not on files, and not without a pair", () => {
  const evicting = paired
    .slice(0, paired.indexOf("[power]"))
    .replace('fencing = "power"', 'fencing = "atomic"')
    .replace('path = "/shelf/0"', 'path = "/dev/sda"');
  const { board } = accepted(evicting);
  assert.is(board.power, undefined);
  assert.is(board.shelves[0]?.fencing, "atomic");
  assert.ok(board.shelves[0]?.disks.every(({ create }) => !create));
  const withFile = evicting.replace('"/dev/sda"', '"/srv/shelf0.disk"');
  assert.is(
    refusal(withFile),
    'oak-a.toml: shelf[0].disk[0].path: "/srv/shelf0.disk" is a file, and shelf[0].fencing = "atomic" needs disks that evict a lost partner (SCSI persistent reservations); name a device, or write fencing = "power"',
  );
  const alone = evicting.slice(0, evicting.indexOf("[pair]"));
  assert.is(
    refusal(alone),
    'oak-a.toml: shelf[0].fencing: "atomic" is for pairs and locks no disk, and there is no [pair]; write fencing = "none", or describe [pair]',
  );
});

test("a pair that could not be held together or apart -> one line with field, fault and remedy", () => {
  const power = paired.slice(paired.indexOf("[power]"));
  const pairAndPower = paired.slice(paired.indexOf("[pair]"));
  const nics = 'nics = ["ic0", "ic1"]';
  const lockExample = '[power] with lock = "/run/goldcopy/oak-a.life" and target_lock = "/run/goldcopy/oak-b.life"';
  const rows: [string, string, string][] = [
    [
      power,
      "",
      `power: missing, but shelf[0].fencing = "power" needs it to switch the partner off; write for example ${lockExample}`,
    ],
    [
      'fencing = "power"',
      'fencing = "none"',
      'shelf[0].fencing: `none` cannot hold a pair, because nothing keeps a lost partner from writing; write fencing = "power", or "atomic" for disks that evict it',
    ],
    [
      '\nfencing = "power"',
      "",
      'shelf[0].fencing: `none` cannot hold a pair, because nothing keeps a lost partner from writing; write fencing = "power", or "atomic" for disks that evict it',
    ],
    [
      'fencing = "power"',
      'fencing = "atomic"',
      'power: shelf[0].fencing = "atomic" says that the disks evict a lost partner, so nobody is switched off; remove [power], or write fencing = "power"',
    ],
    [
      'fencing = "power"',
      'fencing = "power"\ndisk = [{ slot = 0, path = "/dev/sda" }]\n[[shelf]]\nname = "shelf1"\nfencing = "atomic"',
      'shelf[1].fencing: "atomic", and shelf[0].fencing is "power"; a lost partner is fenced in one way: write the same for every shelf',
    ],
    [
      pairAndPower,
      "",
      'shelf[0].fencing: "power" is for pairs and locks no disk, and there is no [pair]; write fencing = "none", or describe [pair] and [power]',
    ],
    [nics, 'nics = ["ic0", "ic2"]', 'pair.nics[1]: there is no [[nic]] "ic2"; name some of nic0, nic1, ic0, ic1'],
    [
      nics,
      'nics = ["ic0", "ic0"]',
      'pair.nics[1]: "ic0" is the name of pair.nics[0] too; name each NIC of the interconnect once',
    ],
    [
      nics,
      'nics = ["ic0"]',
      "pair.addresses: 2 for 1 NICs; write one address of the partner for each of pair.nics, in their order",
    ],
    [
      nics,
      "nics = []",
      'pair.nics: a list of 0 is too short: at least 1 are needed; write for example nics = ["ic0", "ic1"]',
    ],
    [
      `${nics}\naddresses = ["127.0.0.1:7501", "127.0.0.1:7511"]`,
      'nics = ["ic0", "ic1", "nic0", "nic1"]\naddresses = ["h:1", "h:2", "h:3", "h:4"]',
      "pair.nics: every [[nic]] is the interconnect, and none is left for the [[peer]] tables; add a [[nic]] for peers, or name fewer",
    ],
    ['partner = "oak-b"', 'partner = "oak-a"', 'pair.partner: "oak-a" is this appliance itself; name the other one'],
    [
      'partner = "oak-b"',
      'partner = "elm-a"',
      'peer[0].appliances[0].name: "elm-a" is the name of pair.partner too; give each appliance its own name',
    ],
    [
      '"127.0.0.1:7511"',
      '"127.0.0.1:7510"',
      'pair.addresses[1]: "127.0.0.1:7510" is the address of nic[3].listen too; give each port its own address',
    ],
    [
      '"/run/oak-b.life"',
      '"/run/oak-a.life"',
      'power.target_lock: "/run/oak-a.life" is the path of power.lock too; give each its own file',
    ],
    [
      'target_lock = "/run/oak-b.life"\n',
      "",
      'power.target_lock: missing; write for example target_lock = "/run/goldcopy/oak-b.life", or for virtual machines monitor = "10.0.2.2:4444" alone',
    ],
    [
      'lock = "/run/oak-a.life"\ntarget_lock = "/run/oak-b.life"\n',
      "",
      'power.lock: missing; write for example lock = "/run/goldcopy/oak-a.life", or for virtual machines monitor = "10.0.2.2:4444" alone',
    ],
    [
      "[power]",
      '[power]\nmonitor = "10.0.2.2:4444"',
      "power: monitor switches off a partner in a virtual machine, lock and target_lock are for one on the same machine; write either monitor, or both locks",
    ],
    [
      "[power]",
      "[power]\nrestart = true",
      "power.restart: is for a partner in a virtual machine; write monitor, or remove it",
    ],
    ["[power]", "[power]\nrestart = 1", "power.restart: 1 is not true or false; write for example restart = true"],
    ...["4444", "10.0.2.2:0", "10.0.2.2:70000", "run/oak-b.qmp", "/", ""].map((wrong): [string, string, string] => [
      "[power]",
      `[power]\nmonitor = "${wrong}"`,
      `power.monitor: "${wrong}" is neither HOST:PORT nor the path of a unix socket; write for example monitor = "10.0.2.2:4444"`,
    ]),
    [
      "[power]",
      "heartbeat_ms = 9\n[power]",
      "pair.heartbeat_ms: 9 is not a whole number from 10 to 10000; write for example heartbeat_ms = 100",
    ],
    [
      "[power]",
      "missed_max = 2\n[power]",
      "pair.missed_max: 2 is not a whole number from 3 to 100; write for example missed_max = 10",
    ],
    [
      "[power]",
      "hung_ms = 99\n[power]",
      "pair.hung_ms: 99 is not a whole number from 100 to 1000000; write for example hung_ms = 2000",
    ],
    [
      "[power]",
      "hung_ms = 900\n[power]",
      "pair.hung_ms: 900 is less than the 1000 ms after which a silent partner is lost (heartbeat_ms x missed_max); " +
        "write for example hung_ms = 2000, or leave it out",
    ],
    [
      "[power]",
      'preferred = "yes"\n[power]',
      'pair.preferred: "yes" is not true or false; write for example preferred = true',
    ],
  ];
  for (const [from, to, expected] of rows) {
    assert.ok(paired.includes(from), from);
    assert.is(refusal(paired.replace(from, to)), `oak-a.toml: ${expected}`);
  }
  assert.is(
    refusal(`${valid}${power}`),
    "oak-a.toml: power: there is no [pair], so nobody could be switched off; describe the partner in [pair], or remove [power]",
  );
  const withoutPeers = paired.replace(valid.slice(valid.indexOf("[[peer]]")), "");
  accepted(
    withoutPeers
      .replace(nics, 'nics = ["ic0", "ic1", "nic0", "nic1"]')
      .replace('["127.0.0.1:7501", "127.0.0.1:7511"]', '["h:1", "h:2", "h:3", "h:4"]'),
  );
});

const serviceTable = '[[service]]\naddress = "192.0.2.100"\ninterface = "eth0"\n';
const moving = `[[hba]]\nname = "hba2"\nlisten = "192.0.2.100:10809"\nprotocol = "nbd"\n`;
const serving = `${paired}${moving}${serviceTable}`;

test("[[service]] and ports that listen on it -> addresses that move, and where they are here", () => {
  const hardware: LinuxBoard = accepted(serving).board;
  assert.equal(hardware.services, [{ address: "192.0.2.100", interface: "eth0" }]);
  assert.is(hardware.hbas.at(-1)?.listen, "192.0.2.100:10809");
});

test("an address that could not move, or not be listened on -> one line with field, fault and remedy", () => {
  const wrong = (text: string, told: string) => assert.is(refusal(text), `oak-a.toml: ${told}`);
  const example = 'write for example address = "192.0.2.100"';
  for (const address of ["192.0.2.100/24", "192.0.2.256", "2001:db8::100", "oak"]) {
    const told = `service[0].address: "${address}" is not an IPv4 address alone (IPv6 addresses do not move in this version)`;
    wrong(serving.replace('"192.0.2.100"', `"${address}"`), `${told}; ${example}`);
  }
  wrong(
    serving.replace('"eth0"', '"eth0:1"'),
    'service[0].interface: "eth0:1" is not an interface\'s name; write for example interface = "eth0"',
  );
  wrong(
    `${valid}${moving}${serviceTable}`,
    "service: there is no [pair], so there is nowhere to move to; write the address into hba.listen alone, or describe the partner in [pair]",
  );
  wrong(
    `${serving}${serviceTable}`,
    'service[1].address: "192.0.2.100" is the address of service[0] too; name each once',
  );
  wrong(
    `${paired}${serviceTable}`,
    'service[0].address: no [[hba]] listens on 192.0.2.100; write for example listen = "192.0.2.100:10809" in one, or remove [[service]]',
  );
  wrong(
    serving.replace("192.0.2.100:10809", "192.0.2.100:0"),
    'hba[2].listen: "192.0.2.100:0" moves, and hosts must find its port at both appliances; write a port other than 0',
  );
  assert.match(
    refusal(serving.replace('"127.0.0.1:10809"', '"0.0.0.0:10809"')),
    "hba[0].listen takes port 10809 of every address",
  );
  for (const [field, from] of [
    ["nic[0].listen", '"127.0.0.1:7000"'],
    ["pair.addresses[1]", '"127.0.0.1:7511"'],
  ] as const) {
    const told = `${field}: "192.0.2.100:7999" moves with the array ([[service]]); write an address that stays with its appliance`;
    wrong(serving.replace(from, '"192.0.2.100:7999"'), told);
  }
});

test("one HBA port alone -> refused with what is needed", () => {
  const second = valid.slice(valid.lastIndexOf("[[hba]]"), valid.indexOf("[[nic]]"));
  assert.is(
    refusal(valid.replace(second, "")),
    'oak-a.toml: hba: a list of 1 is too short: at least 2 are needed; write for example two [[hba]] tables, each with name, listen = "127.0.0.1:10809" and protocol = "nbd" or "iscsi"',
  );
});

test("a whole section is missing or no table, the document is nothing -> one line each", () => {
  for (const section of ["array", "manage", "log", "cache"]) {
    const document = Bun.TOML.parse(valid) as Record<string, unknown>;
    delete document[section];
    for (const value of [undefined, 7, "text", []]) {
      const outcome = parseBoardProfile(
        "oak-a.toml",
        value === undefined ? document : { ...document, [section]: value },
      );
      assert.not(outcome.ok);
      if (!outcome.ok)
        assert.match(outcome.text, new RegExp(`^oak-a\\.toml: ${section}\\b[^\\n]*; write for example `));
    }
  }
  for (const document of [null, 1, "x", []]) {
    const outcome = parseBoardProfile("oak-a.toml", document);
    assert.not(outcome.ok);
    if (!outcome.ok) assert.match(outcome.text, /^oak-a\.toml: [^\n]*$/);
  }
});

test("every field in turn holds something absurd -> refused in one line, never thrown", () => {
  const absurd = [Number.NaN, -1, 1e300, "x".repeat(10_000), "\n", "", [], {}, [[]], null, true];
  const visit = (value: unknown, replace: (by: unknown) => unknown): void => {
    for (const other of absurd) {
      const outcome = parseBoardProfile("p.toml", replace(other));
      if (!outcome.ok) assert.match(outcome.text, /^p\.toml: [^\n]{1,400}$/);
    }
    if (typeof value !== "object" || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      visit(inner, (by) => replace(Array.isArray(value) ? value.with(Number(key), by) : { ...value, [key]: by }));
    }
  };
  for (const text of [valid, paired, serving]) visit(Bun.TOML.parse(text), (by) => by);
});

test.run();
