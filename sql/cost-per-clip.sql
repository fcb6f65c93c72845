-- What does a clip cost? Processor milliseconds of each stage over all runs, by clip that it handled and by clip that
-- was kept in the end.
with spent as (
  select stage, min(position) as position, sum(rows) as rows, sum(busy_s) as busy_s
  from stages
  group by stage
),
ended as (
  select sum(kept) as kept from runs
)
select
  stage,
  rows,
  round(1000.0 * busy_s / nullif(rows, 0), 3) as ms_per_clip,
  round(1000.0 * busy_s / nullif(kept, 0), 3) as ms_per_kept_clip
from spent cross join ended
order by position, stage;
