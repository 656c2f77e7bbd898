import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ArrayDocument, newArrayDocument, readArrayDocument } from "../../firmware/manage/array_document.ts";
import { HostRegistry } from "../../firmware/manage/hosts.ts";

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
});

test.run();
