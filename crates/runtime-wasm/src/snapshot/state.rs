//! Reading an instance's state through what the instrumentation exports.

use wasmtime::{
    Instance, Store, Val,
    component::{self, Lift, WasmList},
};
use wasmtime_wizer::{ComponentInstanceState, InstanceState, SnapshotVal, ValType};

use crate::guest::Host;

pub struct ModuleState<'a> {
    pub store: &'a mut Store<Host>,
    pub instance: Instance,
}

/// The instrumentation made these exports itself: that one lacks is a fault of it, and ends the preparation.
const PROMISED: &str = "the instrumented program exports what the instrumentation says";

impl InstanceState for ModuleState<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut *self.store, name).expect(PROMISED);
        match global.get(&mut *self.store) {
            Val::I32(x) => SnapshotVal::I32(x),
            Val::I64(x) => SnapshotVal::I64(x),
            Val::F32(x) => SnapshotVal::F32(x),
            Val::F64(x) => SnapshotVal::F64(x),
            Val::V128(x) => SnapshotVal::V128(x.as_u128()),
            other => panic!("a global of type {:?} passed the check for references", other.ty(&*self.store)),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name).expect(PROMISED);
        contents(memory.data(&*self.store));
    }
}

pub struct ComponentState<'a> {
    pub store: &'a mut Store<Host>,
    pub instance: component::Instance,
}

impl ComponentState<'_> {
    async fn call<R: Lift + Send + Sync + 'static, T>(
        &mut self,
        instance: &str,
        function: &str,
        use_: impl FnOnce(&mut Store<Host>, R) -> T,
    ) -> T {
        let within = self.instance.get_export_index(&mut *self.store, None, instance).expect(PROMISED);
        let index = self.instance.get_export_index(&mut *self.store, Some(&within), function).expect(PROMISED);
        let function = self.instance.get_typed_func::<(), (R,)>(&mut *self.store, index).expect(PROMISED);
        let (value,) =
            function.call_async(&mut *self.store, ()).await.expect("reading a global or a memory does not fail");
        use_(self.store, value)
    }
}

impl ComponentInstanceState for ComponentState<'_> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        self.call(instance, func, |store, list: WasmList<u8>| contents(list.as_le_slice(&*store))).await;
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.call(instance, func, |_, value| value).await
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.call(instance, func, |_, value| value).await
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.call(instance, func, |_, value: f32| value.to_bits()).await
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.call(instance, func, |_, value: f64| value.to_bits()).await
    }
}
