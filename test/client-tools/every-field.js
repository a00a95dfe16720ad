import { getNamedType, isAbstractType, isCompositeType, isObjectType } from "graphql";

/** Levels of fields that an operation selects. */
const maxDepth = 4;

/**
 * Operations that select every field of a schema and pass every argument as a variable: `QueryMe`, `MutationUploadRecord`
 * and so on, one for each root field.
 *
 * @param {import("graphql").GraphQLSchema} schema
 * @returns {string} the document
 */
export function operationsForEveryField(schema) {
  return [schema.getQueryType(), schema.getMutationType()]
    .flatMap((root) =>
      Object.values(root.getFields()).map((field) => {
        const variables = [];
        const selected = select(field, []);
        const name = root.name + field.name.charAt(0).toUpperCase() + field.name.slice(1);
        const declared = variables.length > 0 ? `(${variables.join(", ")})` : "";
        return `${root.name.toLowerCase()} ${name}${declared} { ${selected} }`;

        /** A field with its arguments and its fields. It declares the variables that it uses. */
        function select(field, path) {
          const here = [...path, field.name];
          const passed = field.args.map((arg) => {
            const variable = [...here, arg.name].join("_");
            variables.push(`$${variable}: ${arg.type}`);
            return `${arg.name}: $${variable}`;
          });
          const call = passed.length > 0 ? `${field.name}(${passed.join(", ")})` : field.name;
          const type = getNamedType(field.type);
          return isCompositeType(type) ? `${call} { ${selectAll(type, here)} }` : call;
        }

        function selectAll(type, path) {
          const possible = isAbstractType(type) ? schema.getPossibleTypes(type) : [];
          const fields = isObjectType(type) ? Object.values(type.getFields()) : [];
          return [
            "__typename",
            ...possible.map((each) => `... on ${each.name} { ${selectAll(each, [...path, each.name])} }`),
            ...fields
              .filter((each) => path.length < maxDepth || !isCompositeType(getNamedType(each.type)))
              .map((each) => select(each, path)),
          ].join(" ");
        }
      }),
    )
    .join("\n");
}
