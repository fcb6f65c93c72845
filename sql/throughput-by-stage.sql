-- How fast was each stage in the latest run, and which one held the rest back? busy_s are processor seconds over all
-- threads, so rows and megabytes are by second of work.
select
  stage,
  kind,
  rows,
  dropped,
  failed,
  round(busy_s, 3) as busy_s,
  round(100.0 * busy_s / nullif(sum(busy_s) over (), 0), 1) as busy_percent,
  round(rows / nullif(busy_s, 0), 1) as rows_per_s,
  round(bytes / 1e6 / nullif(busy_s, 0), 1) as mb_per_s
from stages
where run = (select max(run) from runs)
order by position;
