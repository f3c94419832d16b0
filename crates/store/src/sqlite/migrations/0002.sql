-- The layers of the jail that a result's device says were in force, a bit for each. 0: it is not said.
ALTER TABLE settled ADD COLUMN jail INTEGER NOT NULL DEFAULT 0;
