// Registers a product, reads it, meets a refusal, and sees a new price live: node dist/example.js <address>
import { connect, follow } from "./headwater.js";

const url = process.argv[2] ?? process.env["HEADWATER_URL"] ?? "http://127.0.0.1:8080";
const shop = connect(url, process.env["HEADWATER_TOKEN"]);
const id = `pear-${Date.now().toString(36)}`;
const params = { path: { id } };

const registered = await shop.POST("/commands/product/{id}/register", {
  params,
  body: { name: "배 1kg", price: 5_900, category: "fruit" },
});
if (registered.error) throw new Error(`${registered.error.code}: ${registered.error.detail}`);
console.log(`${id} is registered, at version ${registered.data.version}`);

// At the position of the command: it is there.
const read = await shop.GET("/views/product/{id}", { params });
if (!read.data) throw new Error(`${id} cannot be read: ${read.response.status}`);
console.log(`it costs ${read.data.document.price} won`);

const again = await shop.POST("/commands/product/{id}/register", {
  params,
  body: { name: "배", price: 1, category: "fruit" },
});
if (again.error?.code !== "already_registered") throw new Error("it was registered twice");
console.log(`it is refused: ${again.error.code}`);

const ended = new AbortController();
const limit = setTimeout(() => ended.abort(), 30_000);
let price = 5_900;
for await (const live of follow(`${url}/views/product/${id}/live`, ended.signal)) {
  price = (live.data as { document: { price: number } }).document.price;
  console.log(`live: it costs ${price} won`);
  if (price === 6_100) break;
  const body = { price: 6_100 };
  const repriced = await shop.POST("/commands/product/{id}/reprice", { params, body });
  if (repriced.error) throw new Error(repriced.error.code);
}
clearTimeout(limit);
if (price !== 6_100) throw new Error("the new price was not seen live");
