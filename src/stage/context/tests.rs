use std::time::Duration;

use super::*;

async fn finishes(work: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), work).await.is_ok()
}

#[tokio::test]
async fn a_budget_makes_callers_wait_until_memory_is_given_back() {
    let budget = MemoryBudget::new(1 << 20);
    let first = budget.take(700 << 10).await.unwrap();
    assert!(!finishes(async { drop(budget.take(700 << 10).await) }).await);
    drop(first);
    assert!(finishes(async { drop(budget.take(700 << 10).await) }).await);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_is_larger_than_the_budget_runs_alone() {
    let budget = MemoryBudget::new(1 << 20);
    let all = budget.take(10 << 20).await.unwrap();
    assert!(!finishes(async { drop(budget.take(1).await) }).await);
    drop(all);
    assert!(finishes(async { drop(budget.take(1).await) }).await);
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_the_last_slice_of_its_buffer() {
    let budget = MemoryBudget::new(1 << 20);
    let lease = Arc::new(budget.take(4096).await.unwrap());
    let buffer = leased_buffer(vec![7; 4096], &lease);
    drop(lease);
    let slice = buffer.slice(4000);
    drop(buffer);
    assert_eq!(budget.used(), 4096);
    assert_eq!(slice.as_slice()[0], 7);
    drop(slice);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn turns_come_in_order_even_where_one_is_never_used() {
    let queue = Queue::default();
    let (first, second, third) = (queue.turn(0), queue.turn(1), queue.turn(2));
    drop(second);
    assert!(!finishes(third.wait()).await, "the first turn is still on");
    drop(first);
    assert!(finishes(third.wait()).await);
}

#[tokio::test]
async fn a_pool_is_accounted_for_in_datafusion() {
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
    let budget = MemoryBudget::in_pool(1 << 20, &pool, "test");
    let lease = budget.take(8192).await.unwrap();
    assert_eq!(pool.reserved(), 8192);
    drop(lease);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn a_panic_on_a_worker_is_an_error_and_gives_its_core_back() {
    let pool = CpuPool::new(1);
    assert!(pool.run(|| panic!("on purpose")).await.is_err());
    assert_eq!(pool.run(|| 5).await.unwrap().0, 5);
}

#[tokio::test]
async fn a_pool_takes_work_in_turn_and_forgets_whose_callers_are_gone() {
    let pool = CpuPool::new(1);
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let order: Arc<Mutex<Vec<u8>>> = Arc::default();
    let note = |number: u8| {
        let order = Arc::clone(&order);
        move || order.lock().unwrap().push(number)
    };
    let mut first = Box::pin(pool.run(move || gate.recv()));
    assert!(futures::poll!(&mut first).is_pending());
    let (mut second, mut gone, mut third) =
        (Box::pin(pool.run(note(2))), Box::pin(pool.run(note(9))), Box::pin(pool.run(note(3))));
    for waiting in [&mut second, &mut gone, &mut third] {
        assert!(futures::poll!(waiting).is_pending());
    }
    assert_eq!(pool.spare(), 0);
    drop(gone);
    open.send(()).unwrap();
    first.await.unwrap().0.unwrap();
    third.await.unwrap();
    second.await.unwrap();
    assert_eq!(*order.lock().unwrap(), [2, 3]);
    // The thread goes back as soon as it finds nothing.
    while pool.spare() == 0 {
        tokio::task::yield_now().await;
    }
}
