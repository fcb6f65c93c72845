-- What would another threshold on simdrop_score keep? One row for each tenth of the scores of all clips that have one;
-- a clip is kept where its score is at most the threshold. `simdrop repack` makes a dataset of the answer.
with scored as (
  select source, simdrop_score as score, ntile(10) over (order by simdrop_score) as tenth
  from clips
  where simdrop_score is not null and not isnan(simdrop_score)
),
thresholds as (
  select distinct max(score) as threshold from scored group by tenth
)
select
  round(threshold, 5) as threshold,
  count(*) filter (where score <= threshold) as clips_kept,
  count(*) filter (where source = 'real' and score <= threshold) as real_kept,
  count(*) filter (where source = 'synthetic' and score <= threshold) as synthetic_kept,
  round(100.0 * count(*) filter (where score <= threshold) / count(*), 1) as kept_percent
from thresholds cross join scored
group by threshold
order by threshold;
