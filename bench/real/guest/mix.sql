-- 50,000 rows in one transaction, an index, and queries that scan, seek, join and group.
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category INTEGER NOT NULL, price INTEGER NOT NULL);
CREATE TABLE category (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
BEGIN;
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 50000)
INSERT INTO item SELECT n, printf('item-%05d-%x', (n * 7919) % 50000, n * 2654435761 % 4294967296), n * 31 % 97, n * 104729 % 10007 FROM numbers;
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 96)
INSERT INTO category SELECT n, 'category ' || n FROM numbers;
COMMIT;
CREATE INDEX item_name ON item(name);
CREATE INDEX item_category ON item(category, price);
SELECT count(*), sum(price), min(name), max(name) FROM item;
SELECT title, count(*), avg(price), max(item.name) FROM item JOIN category ON category.id = item.category GROUP BY title ORDER BY 3 DESC LIMIT 5;
SELECT count(*) FROM item WHERE name LIKE '%5a%';
SELECT count(*), sum(b.price) FROM item a JOIN item b ON b.name >= printf('item-%05d', a.id % 50000) AND b.name < printf('item-%05d', a.id % 50000 + 1) WHERE a.id < 8000;
UPDATE item SET price = price + 1 WHERE category IN (3, 5, 8, 13, 21, 34);
DELETE FROM item WHERE category = 55;
SELECT count(*), sum(price) FROM item;
PRAGMA integrity_check;
