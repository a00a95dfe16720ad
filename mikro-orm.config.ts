import { ormOptions } from "./src/orm-options.ts";

/** For MikroORM's command line, for instance `npx mikro-orm migration:create`; needs `DATABASE_URL`. */
export default ormOptions(process.env.DATABASE_URL ?? "postgresql://localhost:5432/web_user_music", 2);
