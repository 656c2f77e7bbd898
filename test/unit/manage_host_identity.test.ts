import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ArrayDocument, newArrayDocument, readArrayDocument } from "../../firmware/manage/array_document.ts";
import { HostRegistry } from "../../firmware/manage/hosts.ts";
import { ReservationKeeper } from "../../firmware/manage/reservation_shelf.ts";

const test = suite("manage_host_identity");

const remote = "192.0.2.7:4711";
const nobody = { remote, iqn: null, tlsName: null };

async function registryWith(host: { addresses?: string[]; tlsNames?: string[] }): Promise<HostRegistry> {
  let document: ArrayDocument = newArrayDocument();
  const registry = new HostRegistry({
    document: () => document,
    save: async (hosts) => {
      document = { ...document, hosts };
      return { ok: true, value: null };
    },
    volumeExists: () => true,
    accessChanged: () => {},
  });
  const { addresses = [], tlsNames = [] } = host;
  assert.ok((await registry.add({ name: "h", any: false, addresses, iqns: [], tlsNames })).ok);
  assert.ok((await registry.map("h", { volume: "data", lun: null, readOnly: false })).ok);
  return registry;
}

test("host by TLS name -> whoever proved that name, exactly, from any address; nobody else", async () => {
  const registry = await registryWith({ tlsNames: ["db-1"] });
  assert.equal(registry.accessOf({ ...nobody, tlsName: "db-1" }, "data"), { readOnly: false });
  assert.is(registry.accessOf(nobody, "data"), null);
  assert.is(registry.accessOf({ ...nobody, tlsName: "db-10" }, "data"), null);
  assert.is(registry.accessOf({ ...nobody, tlsName: "DB-1" }, "data"), null);
  assert.is(registry.accessOf({ ...nobody, iqn: "db-1" }, "data"), null);
  assert.is(registry.accessOf({ ...nobody, tlsName: "db-1" }, "other"), null);
});

test("host by address -> recognised with and without a TLS name, by IPv4 and IPv6 with ports", async () => {
  const registry = await registryWith({ addresses: ["192.0.2.0/24", "2001:db8::/32"] });
  assert.equal(registry.accessOf(nobody, "data"), { readOnly: false });
  assert.equal(registry.accessOf({ ...nobody, tlsName: "stranger" }, "data"), { readOnly: false });
  assert.equal(registry.accessOf({ ...nobody, remote: "[2001:db8::9]:1" }, "data"), { readOnly: false });
  assert.is(registry.accessOf({ ...nobody, remote: "198.51.100.1:4711" }, "data"), null);
});

test("document from before TLS names -> loads, its hosts have none", () => {
  const old = {
    format: 1,
    caches: [],
    hosts: [{ name: "h", any: true, addresses: [], iqns: [], mappings: [] }],
  };
  const read = readArrayDocument(old);
  if (typeof read === "string") throw new Error(read);
  assert.equal(read.hosts[0]?.tlsNames, []);
  assert.is(read.hosts[0]?.chap, null);
  assert.equal(read.reservations, {});
});

interface Wanted {
  readonly name: string;
  readonly any?: boolean;
  readonly addresses?: string[];
  readonly iqns?: string[];
  readonly tlsNames?: string[];
  readonly chap?: { user: string; secret: string };
}

class Bench {
  document: ArrayDocument = newArrayDocument();
  changes = 0;
  readonly registry = new HostRegistry({
    document: () => this.document,
    save: async (hosts) => {
      this.document = { ...this.document, hosts };
      return { ok: true, value: null };
    },
    volumeExists: () => true,
    accessChanged: () => {},
  });

  constructor() {
    this.registry.onChanged(() => this.changes++);
  }

  add({ any = false, addresses = [], iqns = [], tlsNames = [], chap, name }: Wanted) {
    return this.registry.add({ name, any, addresses, iqns, tlsNames, chap: chap ?? null });
  }

  async mapped(host: Wanted, volume: string): Promise<void> {
    assert.ok((await this.add(host)).ok);
    assert.ok((await this.registry.map(host.name, { volume, lun: null, readOnly: false })).ok);
  }

  /** Logs in and tells the volume of LUN 0. */
  seenBy(iqn: string, from = remote): string | undefined {
    const identity = { remote: from, iqn, tlsName: null };
    if (this.registry.required(identity) === "unknown") return "unknown";
    return this.registry.lunMappings(identity)[0]?.volume;
  }
}

test("iSCSI: one entry each -> by IQN in any case, else by address, else any; never one with TLS names alone", async () => {
  const bench = new Bench();
  await bench.mapped({ name: "tls", tlsNames: ["db"] }, "of-tls");
  assert.is(bench.seenBy("iqn.x:1"), "unknown");
  await bench.mapped({ name: "any", any: true }, "of-any");
  await bench.mapped({ name: "net", addresses: ["192.0.2.0/24"] }, "of-net");
  await bench.mapped({ name: "named", iqns: ["iqn.X:1"] }, "of-name");
  assert.is(bench.seenBy("IQN.x:1"), "of-name");
  assert.is(bench.seenBy("iqn.x:10"), "of-net");
  assert.is(bench.seenBy("iqn.x:10", "198.51.100.1:9"), "of-any");
});

test("iSCSI: entry with IQN and network -> wants both, and no other entry takes its IQN in", async () => {
  const bench = new Bench();
  await bench.mapped({ name: "any", any: true }, "of-any");
  await bench.mapped({ name: "both", iqns: ["iqn.x:1"], addresses: ["192.0.2.0/24"] }, "of-both");
  assert.is(bench.seenBy("iqn.x:1"), "of-both");
  assert.is(bench.seenBy("iqn.x:1", "198.51.100.1:9"), "unknown");
  assert.is((await bench.add({ name: "again", iqns: ["IQN.X:1"] })).ok, false);
});

test("NBD: entry with an IQN alone -> nobody; with CHAP -> only by its TLS name", async () => {
  const bench = new Bench();
  await bench.mapped({ name: "named", iqns: ["iqn.x:1"] }, "data");
  const chap = { user: "u", secret: "twelve bytes" };
  await bench.mapped({ name: "secret", any: true, tlsNames: ["db"], chap }, "data");
  assert.is(bench.registry.accessOf(nobody, "data"), null);
  assert.equal(bench.registry.accessOf({ ...nobody, tlsName: "db" }, "data"), { readOnly: false });
});

test("entry with CHAP -> asked for at login; whoever logged in before it came sees nothing of it; shown without its secret", async () => {
  const bench = new Bench();
  await bench.mapped({ name: "any", any: true }, "of-any");
  const early = { remote, iqn: "iqn.x:1", tlsName: null };
  assert.is(bench.registry.required(early), "open");
  const chap = { user: "u", secret: "twelve bytes" };
  await bench.mapped({ name: "secret", iqns: ["iqn.x:1"], chap }, "of-secret");
  assert.equal(bench.registry.lunMappings(early), []);
  const required = bench.registry.required({ ...early });
  if (typeof required === "string") throw new Error(required);
  assert.is(required.user, "u");
  assert.is(new TextDecoder().decode(required.secret), "twelve bytes");
  assert.is(JSON.stringify(bench.registry.list()).includes("twelve"), false);
  assert.is(bench.registry.list()[1]?.chapUser, "u");
  const removedBefore = bench.changes;
  assert.ok((await bench.registry.remove("secret")).ok);
  assert.is(bench.changes, removedBefore + 1);
  const read = readArrayDocument(JSON.parse(JSON.stringify(bench.document)));
  assert.is(typeof read, "object");
});

test("reservations -> kept by UUID beside the others, removed by undefined, refused when too long", () => {
  let document: ArrayDocument = newArrayDocument();
  const errors: (string | null)[] = [];
  const keeper = new ReservationKeeper({
    keepsAll: false,
    document: () => document,
    save: (reservations, done) => {
      document = { ...document, reservations };
      done(null);
    },
  });
  const [one, two] = ["1".repeat(32), "2".repeat(32)] as const;
  keeper.save(one, { generation: 1 }, (error) => errors.push(error));
  keeper.save(two, { generation: 2 }, (error) => errors.push(error));
  assert.equal(keeper.load(one), { generation: 1 });
  keeper.save(one, undefined, (error) => errors.push(error));
  assert.is(keeper.load(one), undefined);
  assert.equal(keeper.load(two), { generation: 2 });
  keeper.save(one, { long: "x".repeat(40_000) }, (error) => errors.push(error));
  assert.equal(errors.slice(0, 3), [null, null, null]);
  assert.ok(errors[3]?.includes("more registrations"));
  assert.is(keeper.load(one), undefined);
  for (const digit of ["3", "4", "5"])
    keeper.save(digit.repeat(32), { long: "x".repeat(25_000) }, (error) => errors.push(error));
  assert.equal(errors.slice(4, 6), [null, null]);
  assert.ok(errors[6]?.includes("more registrations"), "together");
  keeper.forget("3".repeat(32), (error) => errors.push(error));
  assert.is(keeper.load("3".repeat(32)), undefined);
  keeper.forget("3".repeat(32), (error) => errors.push(error));
  assert.equal(errors.slice(7), [null, null]);
  assert.is(typeof readArrayDocument(document), "object");
});

test.run();
