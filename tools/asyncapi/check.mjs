// Holds what comes on standard input against the official JSON schema of AsyncAPI 3.0.
import { readFileSync } from "node:fs";
import Ajv from "ajv";
import addFormats from "ajv-formats";
import specs from "@asyncapi/specs";

const document = JSON.parse(readFileSync(0, "utf8"));
const schema = specs.schemas[document.asyncapi];
if (!schema) {
  console.error(`there is no AsyncAPI ${document.asyncapi}`);
  process.exit(1);
}
// Unions are tried one after the other: all errors of all of them tell more than the first.
const ajv = new Ajv.default({ strict: false, allErrors: true, meta: false, validateSchema: false, unicodeRegExp: false });
addFormats.default(ajv);
const validate = ajv.compile(schema);
if (!validate(document)) {
  for (const { instancePath, message } of validate.errors.slice(0, 20)) {
    console.error(`${instancePath}: ${message}`);
  }
  process.exit(1);
}
console.log(`AsyncAPI ${document.asyncapi}: ${Object.keys(document.operations).length} operations`);
