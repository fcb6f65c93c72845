-- How many clips of each source and collection were kept, dropped and failed, and what share was kept?
select
  source,
  dataset,
  count(*) as clips,
  count(*) filter (where fate = 'kept') as kept,
  count(*) filter (where fate = 'dropped') as dropped,
  count(*) filter (where fate = 'failed') as failed,
  round(100.0 * count(*) filter (where fate = 'kept') / count(*), 1) as kept_percent
from clips
group by source, dataset
order by source, dataset;
