//! The loops around controllers and scheduler: queues, back-off, fence, executor
